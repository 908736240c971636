#include "config/size.h"

#include <limits>

#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

TEST(SizeTest, ReadsBytesAndUnits) {
  EXPECT_EQ(*ParseSize("0"), 0);
  EXPECT_EQ(*ParseSize("65536"), 65536);
  EXPECT_EQ(*ParseSize("64K"), 65536);
  EXPECT_EQ(*ParseSize("64k"), 65536);
  EXPECT_EQ(*ParseSize("64KiB"), 65536);
  EXPECT_EQ(*ParseSize("64KB"), 65536);
  EXPECT_EQ(*ParseSize("3M"), int64_t{3} << 20);
  EXPECT_EQ(*ParseSize("3G"), int64_t{3} << 30);
  EXPECT_EQ(*ParseSize("3T"), int64_t{3} << 40);
  EXPECT_EQ(*ParseSize("3P"), int64_t{3} << 50);
  EXPECT_EQ(*ParseSize("7E"), int64_t{7} << 60);
  EXPECT_EQ(*ParseSize("9223372036854775807"),
            std::numeric_limits<int64_t>::max());
  EXPECT_EQ(*ParseSize("000000000000000000000000001"), 1);
}

TEST(SizeTest, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "K", "-1", "+1", " 1", "1 ", "1 K", "1.5G", "0x10", "64Q", "64KK",
        "64Ki", "64Kb", "64KiBB", "64i", "64B", "1e3"}) {
    const auto size = ParseSize(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.status().message(),
              absl::string_view(std::string("\"") + text +
                                "\" is not a size: write bytes, or a number "
                                "with K, M, G, T, P or E, as in \"64K\""));
  }
  EXPECT_FALSE(ParseSize(absl::string_view("1\0K", 3)).ok());
}

TEST(SizeTest, RefusesWhatOverflows) {
  for (const char* text :
       {"9223372036854775808", "8E", "8192P", "9007199254740992K",
        "18446744073709551617", "99999999999999999999999999999999999K"}) {
    const auto size = ParseSize(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.status().message(),
              absl::string_view(std::string("\"") + text +
                                "\" is too large: sizes end below \"8E\""));
  }
  EXPECT_EQ(*ParseSize("9007199254740991K"), int64_t{9007199254740991} << 10);
}

}  // namespace
}  // namespace bgfs::config
