// Histories of qcow2 images that are written, killed and cut off; BGFS_SEED
// replays one. image_histories_long_test.cc and scripts/sim run more.

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/image_history.h"

namespace bgfs::qcow2 {
namespace {

using Kind = ImageHistory::Kind;

void RunHistories(int seeds, Kind kind) {
  ForEachSeed(seeds, [kind](uint64_t seed) {
    EXPECT_EQ(ImageHistory(seed, kind).Run(), "");
  });
}

TEST(ImageHistories, Plain) { RunHistories(100, Kind::kPlain); }
TEST(ImageHistories, WithErrors) { RunHistories(50, Kind::kErrors); }
TEST(ImageHistories, WithPowerCuts) { RunHistories(75, Kind::kPowerCut); }
TEST(ImageHistories, WithKills) { RunHistories(75, Kind::kKill); }

}  // namespace
}  // namespace bgfs::qcow2
