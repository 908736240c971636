// As histories_test.cc, with more seeds.

#include "gtest/gtest.h"
#include "tests/graph/engine_history.h"

namespace bgfs {
namespace {

using Trouble = EngineHistory::Trouble;

TEST(LongHistories, Plain) { RunHistories(5000, Trouble::kNone); }
TEST(LongHistories, WithErrors) { RunHistories(2500, Trouble::kErrors); }
TEST(LongHistories, WithAPowerCut) { RunHistories(2500, Trouble::kPowerCut); }

}  // namespace
}  // namespace bgfs
