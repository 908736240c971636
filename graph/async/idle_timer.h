// IdleTimer: calls back when something has not been used for a while, so that
// what nobody uses gives its memory back.
//
//            Touch()                    period over, touched meanwhile
//   resting ─────────▶ waiting a period ─────┐
//      ▲                   │  ▲──────────────┘
//      └───────────────────┘ period over, not touched: on_idle()
//
// While nothing is used no timer runs.

#ifndef BGFS_GRAPH_ASYNC_IDLE_TIMER_H_
#define BGFS_GRAPH_ASYNC_IDLE_TIMER_H_

#include <coroutine>
#include <cstdint>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "graph/async/loop.h"
#include "graph/async/sync.h"
#include "graph/async/task.h"

namespace bgfs {

// Used on one loop. Between one and two periods pass from the last use.
class IdleTimer {
 public:
  IdleTimer(int64_t period_ns, absl::AnyInvocable<void()> on_idle)
      : period_ns_(period_ns), on_idle_(std::move(on_idle)) {}
  // Must rest: Stop() has returned.
  ~IdleTimer() = default;

  void Touch() {
    touched_ = true;
    if (waiting_.count() == 0) Spawn(Wait(waiting_.Hold()));
  }
  // Ends a wait without calling back. Nothing may Touch() it afterwards.
  Task<void> Stop() {
    stopped_ = true;
    if (waiting_.count() > 0) Loop::Current()->CancelTimer(&timer_);
    co_await waiting_.WaitIdle();
  }

 private:
  struct Period {
    IdleTimer* self;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      self->timer_.waiter = waiter;
      Loop* loop = Loop::Current();
      loop->StartTimer(loop->NowNs() + self->period_ns_, &self->timer_);
    }
    void await_resume() noexcept {}
  };

  Task<void> Wait(InFlight::Holder holder) {
    while (touched_ && !stopped_) {
      touched_ = false;
      co_await Period{this};
    }
    if (!stopped_) on_idle_();
  }

  const int64_t period_ns_;
  absl::AnyInvocable<void()> on_idle_;
  bool touched_ = false;
  bool stopped_ = false;
  Completion timer_;
  InFlight waiting_;  // the task that waits for the timer, if there is one
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_IDLE_TIMER_H_
