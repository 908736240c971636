#include "config/source.h"

#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

TEST(TextTest, TranslatesProtobufsColumns) {
  const Text text("ab\n\tc\td\n\n  \te");
  EXPECT_EQ(text.Offset(0, 0), 0);
  EXPECT_EQ(text.Offset(0, 1), 1);
  EXPECT_EQ(text.Offset(0, 9), 2);    // no further than the end of the line
  EXPECT_EQ(text.Offset(1, 0), 3);    // the tab
  EXPECT_EQ(text.Offset(1, 8), 4);    // c
  EXPECT_EQ(text.Offset(1, 9), 5);    // the second tab
  EXPECT_EQ(text.Offset(1, 16), 6);   // d
  EXPECT_EQ(text.Offset(2, 0), 8);    // an empty line
  EXPECT_EQ(text.Offset(3, 8), 12);   // e
  EXPECT_EQ(text.Offset(3, 99), 13);  // the end of the text
  EXPECT_EQ(text.Offset(9, 0), 13);
  EXPECT_EQ(text.Offset(-1, 0), 0);
}

TEST(TextTest, CountsFromOneInBytes) {
  const Text text("ab\n\tc\n");
  EXPECT_EQ(text.At(0), (Position{1, 1}));
  EXPECT_EQ(text.At(2), (Position{1, 3}));
  EXPECT_EQ(text.At(3), (Position{2, 1}));
  EXPECT_EQ(text.At(4), (Position{2, 2}));
  EXPECT_EQ(text.At(6), (Position{3, 1}));
  EXPECT_EQ(Text("").At(0), (Position{1, 1}));
}

}  // namespace
}  // namespace bgfs::config
