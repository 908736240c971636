// Alarm: a sleep until a time that somebody else can end early.
//
//   co_await alarm.SleepUntil(deadline_ns);    // one sleeper at a time
//   alarm.Ring();                              // wakes it, if there is one
//
// Used on one loop.

#ifndef BGFS_GRAPH_ASYNC_ALARM_H_
#define BGFS_GRAPH_ASYNC_ALARM_H_

#include <coroutine>
#include <cstdint>
#include <limits>

#include "graph/async/check.h"
#include "graph/async/loop.h"

namespace bgfs {

class Alarm {
 public:
  // Sleeps until it is rung.
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  Alarm() = default;
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;
  ~Alarm() { BGFS_CHECK(!asleep_); }

  struct Sleep {
    Alarm* alarm;
    int64_t deadline_ns;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      alarm->Start(deadline_ns, waiter);
    }
    void await_resume() noexcept { alarm->asleep_ = false; }
  };

  // Until the loop's time is `deadline_ns`.
  Sleep SleepUntil(int64_t deadline_ns) { return Sleep{this, deadline_ns}; }

  // No effect where nobody sleeps.
  void Ring() {
    if (!asleep_ || rung_) return;
    rung_ = true;
    if (timed_) {
      Loop::Current()->CancelTimer(&timer_);
    } else {
      Loop::Current()->Schedule(timer_.waiter);
    }
  }

 private:
  void Start(int64_t deadline_ns, std::coroutine_handle<> waiter) {
    BGFS_CHECK(!asleep_);
    asleep_ = true;
    rung_ = false;
    timed_ = deadline_ns != kNever;
    timer_.waiter = waiter;
    if (timed_) Loop::Current()->StartTimer(deadline_ns, &timer_);
  }

  bool asleep_ = false;
  bool rung_ = false;
  bool timed_ = false;
  Completion timer_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_ALARM_H_
