// More of image_histories_test.cc's, on seeds of their own.

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/image_history.h"

namespace bgfs::qcow2 {
namespace {

using Kind = ImageHistory::Kind;

TEST(LongImageHistories, Mixed) {
  ForEachSeed(4000, [](uint64_t seed) {
    ImageHistory history(1000000 + seed, Kind::kMixed);
    EXPECT_EQ(history.Run(), "");
  });
}

}  // namespace
}  // namespace bgfs::qcow2
