// Histories of concurrent requests on random graphs; BGFS_SEED replays one.
// long_histories_test.cc runs more seeds.

#include "gtest/gtest.h"
#include "tests/graph/engine_history.h"

namespace bgfs {
namespace {

using Trouble = EngineHistory::Trouble;

TEST(Histories, Plain) { RunHistories(500, Trouble::kNone); }
TEST(Histories, WithErrors) { RunHistories(300, Trouble::kErrors); }
TEST(Histories, WithAPowerCut) { RunHistories(300, Trouble::kPowerCut); }

}  // namespace
}  // namespace bgfs
