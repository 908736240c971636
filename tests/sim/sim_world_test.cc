#include "tests/sim/sim_world.h"

#include <poll.h>

#include <cerrno>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "graph/async/sync.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

using Log = std::vector<int64_t>;
constexpr int64_t kSecond = 1000000000;

Task<int> AddOn(SimLoop* there, int a, int b) {
  EXPECT_EQ(Loop::Current(), there);
  co_await there->Yield();
  EXPECT_EQ(Loop::Current(), there);
  co_return a + b;
}

Task<int> AddElsewhere(SimLoop* here, SimLoop* there) {
  const int sum = co_await RunOn(*there, AddOn(there, 1, 2));
  EXPECT_EQ(Loop::Current(), here);
  co_return sum;
}

TEST(SimWorld, RunsTasksOnTheirLoops) {
  SimWorld world(1);
  SimLoop& other = world.AddLoop("other");
  EXPECT_EQ(world.Run(AddElsewhere(&world.loop(), &other)), 3);
  EXPECT_EQ(world.Run(other, AddElsewhere(&other, &world.loop())), 3);
  EXPECT_EQ(Loop::Current(), nullptr);
}

Task<int64_t> Sleep(int64_t ns) {
  Loop* loop = Loop::Current();
  const int64_t start = loop->NowNs();
  EXPECT_EQ(co_await loop->SleepUntil(start + ns), 0);
  co_return loop->NowNs() - start;
}

TEST(SimWorld, TimeIsVirtual) {
  SimWorld world(1);
  const int64_t slept = world.Run(Sleep(1000000 * kSecond));
  EXPECT_GE(slept, 1000000 * kSecond);
  EXPECT_LT(slept, 1000000 * kSecond + kSecond / 1000);
}

Task<void> LogThrice(int64_t id, Log* log) {
  for (int i = 0; i < 3; ++i) {
    log->push_back(id);
    co_await Loop::Current()->Yield();
  }
}

Task<void> Offload(int64_t id, Log* log) {
  co_await Loop::Current()->Run(Loop::Offload::kCompute,
                                [] { EXPECT_EQ(Loop::Current(), nullptr); });
  log->push_back(id);
}

// What several loops and the pool of workers do, in one list.
Log Interleaving(uint64_t seed) {
  SimWorld world(seed);
  Log log;
  SimLoop& second = world.AddLoop("second");
  world.loop().Post([&log] { Spawn(LogThrice(1, &log)); });
  second.Post([&log] { Spawn(LogThrice(2, &log)); });
  second.Post([&log] { Spawn(Offload(3, &log)); });
  second.Post([&log] { Spawn(Offload(4, &log)); });
  world.RunUntilIdle();
  log.push_back(static_cast<int64_t>(world.random().Next()));
  return log;
}

TEST(SimWorld, TheSeedDecides) {
  std::set<Log> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Log log = Interleaving(seed);
    EXPECT_EQ(log, Interleaving(seed));
    seen.insert(Log(log.begin(), log.end() - 1));
  }
  EXPECT_GT(seen.size(), 20);
}

Task<void> PollAndLog(int fd, Log* log) {
  log->push_back(co_await Loop::Current()->PollIn(fd));
}

TEST(SimWorld, DescriptorsAreReadableWhenTheTestSaysSo) {
  SimWorld world(1);
  Log log;
  world.loop().Post([&log] {
    Spawn(PollAndLog(5, &log));
    Spawn(PollAndLog(6, &log));
  });
  world.RunUntilIdle();
  EXPECT_TRUE(log.empty());
  world.loop().MakeReadable(6);
  world.RunUntilIdle();
  EXPECT_EQ(log, (Log{POLLIN}));
  world.loop().MakeReadable(5);
  world.RunUntilIdle();
  EXPECT_EQ(log, (Log{POLLIN, POLLIN}));
}

struct CancelledPoll : Completion {
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter = handle;
    Loop::Current()->StartPoll(5, this);
    Loop::Current()->CancelPoll(this);
  }
  int64_t await_resume() noexcept { return result; }
};

Task<int64_t> CancelPoll() { co_return co_await CancelledPoll(); }

TEST(SimWorld, PollsMayBeCancelled) {
  SimWorld world(1);
  EXPECT_EQ(world.Run(CancelPoll()), -ECANCELED);
}

Task<void> WaitForever(WaitQueue* queue) { co_await queue->Wait(); }

TEST(SimWorldDeathTest, DeadlockIsReportedWithTheSeed) {
  EXPECT_DEATH(
      {
        SimWorld world(77);
        WaitQueue queue;
        world.Run(WaitForever(&queue));
      },
      "nothing can run(.|\n)*\"first\": sleeps(.|\n)*BGFS_SEED=77");
}

Task<void> YieldForever() {
  while (true) co_await Loop::Current()->Yield();
}

TEST(SimWorldDeathTest, LivelockIsReported) {
  EXPECT_DEATH(
      {
        SimWorld world(1);
        world.LimitSteps(1000);
        world.Run(YieldForever());
      },
      "the steps have no end");
}

TEST(SimWorldDeathTest, EndingUnderAPollIsABug) {
  EXPECT_DEATH(
      {
        SimWorld world(1);
        Log log;
        world.loop().Post([&log] { Spawn(PollAndLog(5, &log)); });
      },
      "ends under a poll(.|\n)*descriptor 5");
}

TEST(ForEachSeed, StopsAtTheSeedThatFails) {
  std::vector<uint64_t> seeds;
  ForEachSeed(3, [&seeds](uint64_t seed) { seeds.push_back(seed); });
  if (std::getenv("BGFS_SEED") == nullptr) {
    EXPECT_EQ(seeds, (std::vector<uint64_t>{1, 2, 3}));
  }
  setenv("BGFS_SEED", "12", 1);
  seeds.clear();
  ForEachSeed(3, [&seeds](uint64_t seed) { seeds.push_back(seed); });
  EXPECT_EQ(seeds, (std::vector<uint64_t>{12}));
  unsetenv("BGFS_SEED");
}

}  // namespace
}  // namespace bgfs
