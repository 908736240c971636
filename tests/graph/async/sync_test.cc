#include "graph/async/sync.h"

#include <optional>
#include <vector>

#include "graph/async/loop.h"
#include "gtest/gtest.h"
#include "tests/graph/async/test_loop.h"

namespace bgfs {
namespace {

using Log = std::vector<int>;

Task<void> Yields(int count) {
  for (int i = 0; i < count; ++i) co_await Loop::Current()->Yield();
}

Task<void> WaitAndLog(WaitQueue* queue, int id, Log* log) {
  co_await queue->Wait();
  log->push_back(id);
}

Task<void> WakeInOrder(Log* log) {
  WaitQueue queue;
  EXPECT_FALSE(queue.WakeOne());
  for (int id = 0; id < 4; ++id) Spawn(WaitAndLog(&queue, id, log));
  EXPECT_FALSE(queue.empty());
  EXPECT_TRUE(queue.WakeOne());
  EXPECT_TRUE(log->empty());  // scheduled, not resumed in place
  co_await Yields(1);
  EXPECT_EQ(*log, (Log{0}));
  Spawn(WaitAndLog(&queue, 4, log));
  queue.WakeAll();
  EXPECT_TRUE(queue.empty());
  Spawn(WaitAndLog(&queue, 5, log));  // after the wake-up: waits for another
  co_await Yields(2);
  EXPECT_EQ(*log, (Log{0, 1, 2, 3, 4}));
  queue.WakeAll();
  co_await Yields(1);
}

TEST(WaitQueue, WakesFirstInFirstOut) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, WakeInOrder(&log));
  EXPECT_EQ(log, (Log{0, 1, 2, 3, 4, 5}));
}

Task<void> WaitForEvent(Event* event, int id, Log* log) {
  co_await event->Wait();
  log->push_back(id);
}

Task<void> SetAndReset(Log* log) {
  Event event;
  Spawn(WaitForEvent(&event, 0, log));
  Spawn(WaitForEvent(&event, 1, log));
  co_await Yields(2);
  EXPECT_TRUE(log->empty());
  event.Set();
  co_await Yields(1);
  EXPECT_EQ(*log, (Log{0, 1}));
  Spawn(WaitForEvent(&event, 2, log));  // at once: it is set
  EXPECT_EQ(*log, (Log{0, 1, 2}));
  event.Reset();
  Spawn(WaitForEvent(&event, 3, log));
  co_await Yields(2);
  EXPECT_EQ(*log, (Log{0, 1, 2}));
  event.Set();
  event.Reset();  // before the waiter ran: it goes on waiting
  co_await Yields(2);
  EXPECT_EQ(*log, (Log{0, 1, 2}));
  event.Set();
  co_await Yields(1);
}

TEST(Event, LetsWaitersPassWhileItIsSet) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, SetAndReset(&log));
  EXPECT_EQ(log, (Log{0, 1, 2, 3}));
}

Task<void> HoldMutex(Mutex* mutex, int id, int yields, Log* log) {
  auto guard = co_await mutex->Lock();
  EXPECT_TRUE(mutex->locked());
  log->push_back(id);
  co_await Yields(yields);
  log->push_back(id);
}

Task<void> ContendFairly(Log* log) {
  Mutex mutex;
  std::optional<Mutex::Guard> guard(co_await mutex.Lock());
  for (int id = 0; id < 3; ++id) Spawn(HoldMutex(&mutex, id, id, log));
  co_await Yields(3);
  EXPECT_TRUE(log->empty());
  guard.reset();
  // Whoever asks now is behind those who waited: no barging.
  Spawn(HoldMutex(&mutex, 3, 0, log));
  while (mutex.locked()) co_await Yields(1);
  EXPECT_EQ(*log, (Log{0, 0, 1, 1, 2, 2, 3, 3}));
  auto released = co_await mutex.Lock();
  released.Release();
  EXPECT_FALSE(mutex.locked());
}

TEST(Mutex, IsHandedToTheFirstWaiter) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, ContendFairly(&log));
}

Task<void> HoldFor(InFlight::Holder holder, int yields, int* ended) {
  co_await Yields(yields);
  ++*ended;
}

Task<void> WaitUntilIdle() {
  InFlight work;
  co_await work.WaitIdle();  // at once: there is none
  int ended = 0;
  for (int i = 0; i < 5; ++i) Spawn(HoldFor(work.Hold(), i + 1, &ended));
  EXPECT_EQ(work.count(), 5);
  co_await work.WaitIdle();
  EXPECT_EQ(ended, 5);
  EXPECT_EQ(work.count(), 0);
}

TEST(InFlight, IsIdleWhenAllHoldersAreGone) {
  auto loop = StartLoop();
  BlockOn(*loop, WaitUntilIdle());
}

TEST(InFlightDeathTest, EndingUnderWorkIsABug) {
  EXPECT_DEATH(
      {
        std::optional<InFlight> work(std::in_place);
        auto holder = work->Hold();
        work.reset();
      },
      "bug at .*sync.h");
}

}  // namespace
}  // namespace bgfs
