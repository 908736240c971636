#include "config/path.h"

#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

TEST(PathTest, ResolvesRelativeNamesOnly) {
  EXPECT_EQ(Resolve("/a/b", "c.img"), "/a/b/c.img");
  EXPECT_EQ(Resolve("/", "c.img"), "/c.img");
  EXPECT_EQ(Resolve("/a/b", "/c.img"), "/c.img");
  EXPECT_EQ(Resolve("/a/b", "../c.img"), "/a/b/../c.img");
  EXPECT_EQ(Resolve("/a/b", ""), "");
}

TEST(PathTest, NormalisesForComparison) {
  EXPECT_EQ(Normal("/a//b/./c/../d/"), "/a/b/d");
  EXPECT_EQ(Normal("/../../a"), "/a");
  EXPECT_EQ(Normal("/"), "/");
  EXPECT_EQ(Normal("/..a/...b"), "/..a/...b");
}

}  // namespace
}  // namespace bgfs::config
