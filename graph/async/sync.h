// Waiting without blocking, among the tasks of one loop: a queue of waiters,
// an event, a mutex and a counter of work under way. None of them may be used
// from another thread. A woken task is scheduled, never resumed in place, so
// that waking is cheap and needs no stack.

#ifndef BGFS_GRAPH_ASYNC_SYNC_H_
#define BGFS_GRAPH_ASYNC_SYNC_H_

#include <coroutine>
#include <cstdint>

#include "graph/async/check.h"
#include "graph/async/loop.h"

namespace bgfs {

// First in, first out.
class WaitQueue {
 public:
  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  ~WaitQueue() { BGFS_CHECK(empty()); }

  class Awaiter {
   public:
    explicit Awaiter(WaitQueue* queue) : queue_(queue) {}
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
      waiter_ = waiter;
      *queue_->last_ = this;
      queue_->last_ = &next_;
    }
    void await_resume() noexcept {}

   private:
    friend class WaitQueue;
    WaitQueue* queue_;
    std::coroutine_handle<> waiter_;
    Awaiter* next_ = nullptr;
  };

  bool empty() const { return first_ == nullptr; }
  // co_await queue.Wait() sleeps until it is woken.
  Awaiter Wait() { return Awaiter(this); }
  // Wakes the first waiter; false if there is none.
  bool WakeOne() {
    if (first_ == nullptr) return false;
    Awaiter* awaiter = first_;
    first_ = awaiter->next_;
    if (first_ == nullptr) last_ = &first_;
    Loop::Current()->Schedule(awaiter->waiter_);
    return true;
  }
  void WakeAll() {
    while (WakeOne()) {
    }
  }

 private:
  Awaiter* first_ = nullptr;
  Awaiter** last_ = &first_;
};

// Once set, every wait returns at once, until it is reset.
class Event {
 public:
  bool is_set() const { return set_; }
  void Set() {
    set_ = true;
    waiters_.WakeAll();
  }
  void Reset() { set_ = false; }
  Task<void> Wait() {
    while (!set_) co_await waiters_.Wait();
  }

 private:
  bool set_ = false;
  WaitQueue waiters_;
};

// Fair: handed over to the first waiter.
class Mutex {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(Mutex* mutex) : mutex_(mutex) {}
    Guard(Guard&& other) noexcept
        : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() { Release(); }
    void Release() {
      if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->Unlock();
    }

   private:
    Mutex* mutex_;
  };

  // auto guard = co_await mutex.Lock();
  Task<Guard> Lock() {
    if (locked_) {
      co_await waiters_.Wait();  // ownership comes with the wake-up
    } else {
      locked_ = true;
    }
    co_return Guard(this);
  }
  bool locked() const { return locked_; }

 private:
  void Unlock() {
    BGFS_CHECK(locked_);
    if (!waiters_.WakeOne()) locked_ = false;
  }

  bool locked_ = false;
  WaitQueue waiters_;
};

// Counts work under way and lets a task wait until there is none.
class InFlight {
 public:
  class [[nodiscard]] Holder {
   public:
    explicit Holder(InFlight* owner) : owner_(owner) { owner_->Begin(); }
    Holder(Holder&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)) {}
    Holder& operator=(Holder&&) = delete;
    ~Holder() {
      if (owner_ != nullptr) owner_->End();
    }

   private:
    InFlight* owner_;
  };

  ~InFlight() { BGFS_CHECK(count_ == 0); }
  Holder Hold() { return Holder(this); }
  // The two halves of a Holder.
  void Begin() { ++count_; }
  void End() {
    if (--count_ == 0) idle_.WakeAll();
  }
  int64_t count() const { return count_; }
  // Returns when the count was seen to be zero.
  Task<void> WaitIdle() {
    while (count_ > 0) co_await idle_.Wait();
  }
  // Returns when it may be zero, or after Kick().
  Task<void> WaitIdleOrKick() {
    if (count_ > 0) co_await idle_.Wait();
  }
  void Kick() { idle_.WakeAll(); }

 private:
  int64_t count_ = 0;
  WaitQueue idle_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_SYNC_H_
