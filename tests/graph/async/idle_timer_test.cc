#include "graph/async/idle_timer.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

constexpr int64_t kPeriod = 1000000000;

struct Watched {
  int idle_calls = 0;
  IdleTimer timer{kPeriod, [this] { ++idle_calls; }};
};

Task<void> Sleep(int64_t ns) {
  Loop* loop = Loop::Current();
  co_await loop->SleepUntil(loop->NowNs() + ns);
}

Task<void> UseThenRest(Watched* watched) {
  // In use: however long, it is not idle.
  for (int i = 0; i < 20; ++i) {
    watched->timer.Touch();
    co_await Sleep(kPeriod / 2);
  }
  EXPECT_EQ(watched->idle_calls, 0);
  co_await Sleep(2 * kPeriod);
  EXPECT_EQ(watched->idle_calls, 1);
  // Once; and again only after it was used again.
  co_await Sleep(10 * kPeriod);
  EXPECT_EQ(watched->idle_calls, 1);
  watched->timer.Touch();
  co_await Sleep(3 * kPeriod);
  EXPECT_EQ(watched->idle_calls, 2);
  co_await watched->timer.Stop();
}

TEST(IdleTimer, CallsWhenNothingUsedItForAPeriod) {
  Watched watched;
  SimWorld world(1);
  world.Run(UseThenRest(&watched));
}

Task<void> StopInTime(Watched* watched) {
  watched->timer.Touch();
  const int64_t before = Loop::Current()->NowNs();
  co_await watched->timer.Stop();
  EXPECT_LT(Loop::Current()->NowNs() - before, kPeriod / 2);
}

TEST(IdleTimer, StopsWithoutWaiting) {
  Watched watched;
  SimWorld world(1);
  world.Run(StopInTime(&watched));
  world.RunUntilIdle();
  EXPECT_EQ(watched.idle_calls, 0);
}

}  // namespace
}  // namespace bgfs
