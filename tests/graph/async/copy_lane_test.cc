// What goes into a lane runs elsewhere, one after another, and ends on the
// loop.

#include "graph/async/copy_lane.h"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/graph/async/test_loop.h"

namespace bgfs {
namespace {

Task<void> UseInTurn(CopyLane* lane) {
  Loop* loop = Loop::Current();
  constexpr int kCount = 1000;
  std::atomic<int> running{0};
  std::vector<int> ran;
  std::vector<int> done;
  EXPECT_FALSE(lane->busy());
  for (int i = 0; i < kCount; ++i) {
    lane->Add(
        [&running, &ran, loop, i] {
          EXPECT_FALSE(loop->IsCurrent());
          EXPECT_EQ(++running, 1);
          ran.push_back(i);
          EXPECT_EQ(--running, 0);
        },
        [&done, loop, i] {
          EXPECT_TRUE(loop->IsCurrent());
          done.push_back(i);
        });
    EXPECT_TRUE(lane->busy());
  }
  EXPECT_TRUE(done.empty());
  while (lane->busy()) co_await loop->Yield();
  std::vector<int> in_order(kCount);
  for (int i = 0; i < kCount; ++i) in_order[i] = i;
  EXPECT_EQ(ran, in_order);
  EXPECT_EQ(done, in_order);
}

TEST(CopyLane, DoesOneAfterAnotherElsewhere) {
  auto loop = StartLoop();
  CopyLane lane(loop.get());
  BlockOn(*loop, UseInTurn(&lane));
  BlockOn(*loop, UseInTurn(&lane));  // and again, after it had nothing to do
}

Task<void> EndInDone() {
  Loop* loop = Loop::Current();
  for (int i = 0; i < 100; ++i) {
    std::optional<CopyLane> lane(loop);
    lane->Add([] {}, [&lane] { lane.reset(); });
    while (lane.has_value()) co_await loop->Yield();
  }
}

TEST(CopyLane, MayEndWithItsLastWork) {
  auto loop = StartLoop();
  BlockOn(*loop, EndInDone());
}

}  // namespace
}  // namespace bgfs
