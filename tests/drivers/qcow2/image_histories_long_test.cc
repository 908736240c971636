// More of image_histories_test.cc's, on seeds of their own.

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/image_history.h"

namespace bgfs::qcow2 {
namespace {

using Kind = ImageHistory::Kind;

void RunHistories(int seeds, Kind kind) {
  ForEachSeed(seeds, [kind](uint64_t seed) {
    EXPECT_EQ(ImageHistory(1000000 + seed, kind).Run(), "");
  });
}

TEST(LongImageHistories, WithErrors) { RunHistories(1000, Kind::kErrors); }
TEST(LongImageHistories, WithPowerCuts) { RunHistories(1000, Kind::kPowerCut); }
TEST(LongImageHistories, WithKills) { RunHistories(1000, Kind::kKill); }
TEST(LongImageHistories, Mixed) { RunHistories(1000, Kind::kMixed); }

}  // namespace
}  // namespace bgfs::qcow2
