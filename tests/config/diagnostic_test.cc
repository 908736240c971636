#include "config/diagnostic.h"

#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

TEST(DiagnosticTest, FormatLeavesOutWhatIsNotKnown) {
  EXPECT_EQ(Format("a.textproto", {{3, 7}, "wrong"}), "a.textproto:3:7: wrong");
  EXPECT_EQ(Format("a.textproto", {{}, "wrong"}), "a.textproto: wrong");
  EXPECT_EQ(Format("", {{}, "wrong"}), "wrong");
}

TEST(DiagnosticTest, PrintableIsOneHarmlessLine) {
  EXPECT_EQ(Printable("plain \"text\" ä€😀"), "plain \"text\" ä€😀");
  EXPECT_EQ(Printable("a\nb\x1b[31m\x7f"), "a\\nb\\x1b[31m\\x7f");
  EXPECT_EQ(Printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b");  // CSI in one character
  EXPECT_EQ(Printable(absl::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(Printable("abcdef", 3), "abc...");
  EXPECT_EQ(Printable("abc", 3), "abc");
}

TEST(DiagnosticTest, QuoteIsShort) {
  EXPECT_EQ(Quote("a"), "\"a\"");
  EXPECT_LT(Quote(std::string(1 << 20, 'x')).size(), 100);
}

TEST(DiagnosticTest, DidYouMeanFindsTheNearest) {
  const std::vector<std::string> names = {"node_name", "read_only", "raw",
                                          "base"};
  EXPECT_EQ(DidYouMean("nod_name", names), "; did you mean \"node_name\"?");
  EXPECT_EQ(DidYouMean("NodeName", names), "; did you mean \"node_name\"?");
  EXPECT_EQ(DidYouMean("readonly", names), "; did you mean \"read_only\"?");
  EXPECT_EQ(DidYouMean("bsae", names), "");  // two slips in four letters
  EXPECT_EQ(DidYouMean("bas", names), "; did you mean \"base\"?");
  EXPECT_EQ(DidYouMean("elephant", names), "");
  EXPECT_EQ(DidYouMean("", names), "");
  EXPECT_EQ(DidYouMean("x", {"y"}), "");
  EXPECT_EQ(DidYouMean("raw", {}), "");
  EXPECT_EQ(DidYouMean(std::string(1 << 20, 'x'), names), "");
}

TEST(DiagnosticTest, DidYouMeanTakesTheFirstOfEquals) {
  EXPECT_EQ(DidYouMean("top", {"toq", "tor"}), "; did you mean \"toq\"?");
}

}  // namespace
}  // namespace bgfs::config
