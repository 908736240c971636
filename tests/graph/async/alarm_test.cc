#include "graph/async/alarm.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

constexpr int64_t kSecond = 1000000000;

Task<void> Sleep(Alarm* alarm, int64_t deadline_ns, int64_t* woke_ns) {
  co_await alarm->SleepUntil(deadline_ns);
  *woke_ns = Loop::Current()->NowNs();
}

Task<void> RingAndWait() {
  Loop* const loop = Loop::Current();
  Alarm alarm;
  alarm.Ring();  // nobody sleeps
  for (const int64_t deadline_ns :
       {loop->NowNs() + 10 * kSecond, Alarm::kNever}) {
    int64_t woke_ns = 0;
    Spawn(Sleep(&alarm, deadline_ns, &woke_ns));
    co_await loop->SleepUntil(loop->NowNs() + kSecond);
    EXPECT_EQ(woke_ns, 0);
    alarm.Ring();
    alarm.Ring();
    EXPECT_EQ(woke_ns, 0) << "scheduled, not resumed in place";
    co_await loop->Yield();
    EXPECT_NE(woke_ns, 0);
  }
}

TEST(Alarm, EndsASleepEarly) {
  SimWorld world(1);
  world.Run(RingAndWait());
}

Task<void> SleepInFull() {
  Loop* const loop = Loop::Current();
  Alarm alarm;
  int64_t woke_ns = 0;
  for (int i = 0; i < 3; ++i) {
    const int64_t deadline_ns = loop->NowNs() + kSecond;
    co_await Sleep(&alarm, deadline_ns, &woke_ns);
    EXPECT_GE(woke_ns, deadline_ns);
    EXPECT_LT(woke_ns, deadline_ns + kSecond / 10);
  }
}

TEST(Alarm, OrEndsByItself) {
  SimWorld world(1);
  world.Run(SleepInFull());
}

Task<void> RingAt(Alarm* alarm, int64_t at_ns) {
  co_await Loop::Current()->SleepUntil(at_ns);
  alarm->Ring();
}

// The timer has fired, and the sleeper has not run yet.
Task<void> RingWhatIsOver() {
  Loop* const loop = Loop::Current();
  Alarm alarm;
  int64_t woke_ns = 0;
  const int64_t deadline_ns = loop->NowNs() + kSecond;
  Spawn(RingAt(&alarm, deadline_ns));
  Spawn(Sleep(&alarm, deadline_ns, &woke_ns));
  co_await loop->SleepUntil(deadline_ns + kSecond);
  EXPECT_GE(woke_ns, deadline_ns);
}

TEST(Alarm, RingingLateDoesNothing) {
  SimWorld world(1);
  world.Run(RingWhatIsOver());
}

}  // namespace
}  // namespace bgfs
