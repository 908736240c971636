// What all bodies of the loop share, on the real ones.

#include "graph/async/loop.h"

#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/graph/async/test_loop.h"

namespace bgfs {
namespace {

using Log = std::vector<int64_t>;

TEST(Loop, RunsPostsOfEachThreadInOrder) {
  constexpr int kThreads = 4;
  constexpr int64_t kPosts = 20000;
  auto loop = StartLoop();
  std::vector<Log> logs(kThreads);
  std::atomic<int64_t> ran{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (Log& log : logs) {
    threads.emplace_back([&loop, &log, &ran] {
      for (int64_t i = 0; i < kPosts; ++i) {
        loop->Post([&log, &ran, i] {
          log.push_back(i);
          ran.fetch_add(1);
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.reset();  // what was posted still runs
  EXPECT_EQ(ran.load(), kThreads * kPosts);
  for (const Log& log : logs) {
    ASSERT_EQ(log.size(), kPosts);
    for (int64_t i = 0; i < kPosts; ++i) ASSERT_EQ(log[i], i);
  }
}

// The next post comes at every distance from the end of the one before, so that
// it meets the loop busy, asleep, and just falling asleep.
TEST(Loop, NeverSleepsThroughAPost) {
  auto loop = StartLoop();
  std::atomic<int> ran{0};
  std::atomic<int> spun{0};
  for (int i = 0; i < 50000; ++i) {
    loop->Post([&ran] { ran.fetch_add(1); });
    while (ran.load() == i) {
    }
    for (int spin = 0; spin < i % 500; ++spin) spun.store(spin);
  }
}

Task<std::unique_ptr<int>> WhereAmI(Loop* expected, int value) {
  EXPECT_EQ(Loop::Current(), expected);
  EXPECT_TRUE(expected->IsCurrent());
  co_await expected->Yield();
  EXPECT_EQ(Loop::Current(), expected);
  co_return std::make_unique<int>(value);
}

Task<int64_t> ThereAndBack(Loop* here, Loop* there, int rounds) {
  int64_t sum = 0;
  for (int i = 0; i < rounds; ++i) {
    sum += *co_await RunOn(*there, WhereAmI(there, i));
    EXPECT_EQ(Loop::Current(), here);
    sum += *co_await RunOn(*here, WhereAmI(here, i));
    EXPECT_EQ(Loop::Current(), here);
  }
  co_return sum;
}

TEST(Loop, RunOnGoesThereAndComesBack) {
  auto first = StartLoop("first");
  auto second = StartLoop("second");
  EXPECT_EQ(Loop::Current(), nullptr);
  std::thread other([&first, &second] {
    EXPECT_EQ(BlockOn(*second, ThereAndBack(second.get(), first.get(), 2000)),
              int64_t{2000} * 1999);
  });
  EXPECT_EQ(BlockOn(*first, ThereAndBack(first.get(), second.get(), 2000)),
            int64_t{2000} * 1999);
  other.join();
}

Task<void> SleepAndLog(int64_t deadline_ns, int id, Log* log) {
  Loop* loop = Loop::Current();
  EXPECT_EQ(co_await loop->SleepUntil(deadline_ns), 0);
  EXPECT_GE(loop->NowNs(), deadline_ns);
  log->push_back(id);
}

Task<void> SleepInOrder(Log* log) {
  Loop* loop = Loop::Current();
  const int64_t start = loop->NowNs();
  constexpr int64_t kMs = 1000000;
  Spawn(SleepAndLog(start + 6 * kMs, 3, log));
  Spawn(SleepAndLog(start + 2 * kMs, 1, log));
  Spawn(SleepAndLog(start + 4 * kMs, 2, log));
  Spawn(SleepAndLog(start + 6 * kMs, 4, log));  // equal: in order of start
  Spawn(SleepAndLog(start - kMs, 0, log));      // past: next turn
  co_await loop->SleepUntil(start + 8 * kMs);
}

TEST(Loop, TimersFireInOrderOfDeadline) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, SleepInOrder(&log));
  EXPECT_EQ(log, (Log{0, 1, 2, 3, 4}));
}

// In a turn that the loop came to without sleeping, too.
Task<void> LookAtTheClock() {
  Loop* loop = Loop::Current();
  const int64_t first = loop->RecentNs();
  const auto now_ns = [] {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
  };
  EXPECT_LE(first, now_ns());
  EXPECT_EQ(loop->RecentNs(), first) << "it only remembers";
  const int64_t seen = loop->NowNs();
  EXPECT_EQ(loop->RecentNs(), seen);
  co_await loop->Yield();  // what was posted goes on in the same turn
  for (int i = 0; i < 100; ++i) {
    const int64_t before = now_ns();
    co_await loop->Yield();
    EXPECT_GE(loop->RecentNs(), before) << "another turn";
    EXPECT_LE(loop->RecentNs(), now_ns());
  }
}

TEST(Loop, RemembersWhenTheTurnBegan) {
  auto loop = StartLoop();
  BlockOn(*loop, LookAtTheClock());
}

// A timer whose completion others can reach.
struct Timer {
  Completion completion;
  int64_t deadline_ns = 0;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    completion.waiter = waiter;
    Loop::Current()->StartTimer(deadline_ns, &completion);
  }
  int64_t await_resume() noexcept { return completion.result; }
};

Task<void> AwaitTimer(Timer* timer, Log* log) {
  log->push_back(co_await *timer);
}

Task<void> CancelTimers(Log* log) {
  Loop* loop = Loop::Current();
  Timer never;
  never.deadline_ns = INT64_MAX - 1;
  Spawn(AwaitTimer(&never, log));
  loop->CancelTimer(&never.completion);
  EXPECT_TRUE(log->empty());  // scheduled, not resumed in place
  co_await loop->Yield();
  EXPECT_EQ(*log, (Log{-ECANCELED}));
  Timer past;
  Spawn(AwaitTimer(&past, log));
  while (log->size() < 2) co_await loop->Yield();
  loop->CancelTimer(&past.completion);  // it fired: no effect
  co_await loop->Yield();
}

TEST(Loop, CancelledTimersSaySo) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, CancelTimers(&log));
  EXPECT_EQ(log, (Log{-ECANCELED, 0}));
}

Task<void> YieldAndLog(int id, int rounds, Log* log, InFlight::Holder holder) {
  for (int i = 0; i < rounds; ++i) {
    log->push_back(id);
    co_await Loop::Current()->Yield();
  }
}

Task<void> YieldInTurns(Log* log) {
  InFlight running;
  for (int id = 0; id < 3; ++id) {
    Spawn(YieldAndLog(id, 3, log, running.Hold()));
  }
  co_await running.WaitIdle();
}

TEST(Loop, YieldIsFirstInFirstOut) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, YieldInTurns(&log));
  EXPECT_EQ(log, (Log{0, 1, 2, 0, 1, 2, 0, 1, 2}));
}

Task<void> OffloadOnce(Loop::Offload kind, Log* log) {
  Loop* loop = Loop::Current();
  const std::thread::id here = std::this_thread::get_id();
  std::thread::id there = here;
  // The work is destroyed before its waiter goes on.
  auto alive = std::make_shared<int>(0);
  std::weak_ptr<int> watch = alive;
  co_await loop->Run(kind, [&there, alive = std::move(alive)] {
    EXPECT_EQ(Loop::Current(), nullptr);
    there = std::this_thread::get_id();
  });
  EXPECT_TRUE(watch.expired());
  EXPECT_NE(there, here);
  EXPECT_EQ(std::this_thread::get_id(), here);
  log->push_back(1);
}

Task<void> OffloadOften(Log* log) {
  for (int i = 0; i < 100; ++i) {
    co_await OffloadOnce(Loop::Offload::kCompute, log);
    co_await OffloadOnce(Loop::Offload::kBlocking, log);
  }
}

TEST(Loop, OffloadsWorkToOtherThreads) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, OffloadOften(&log));
  EXPECT_EQ(log.size(), 200);
}

Task<void> Nothing() { co_return; }

TEST(LoopDeathTest, BlockingALoopIsABug) {
  EXPECT_DEATH(
      {
        auto loop = StartLoop();
        HostLoop* raw = loop.get();
        loop->Post([raw] { BlockOn(*raw, Nothing()); });
        loop.reset();
      },
      "bug at .*loop_inl.h");
}

}  // namespace
}  // namespace bgfs
