// Task<T>: a coroutine that starts when it is awaited and gives a T.
//
//   Task<IoStatus> Copy(Child& from, Child& to) {
//     BGFS_CO_TRY(co_await from.Read(...));
//     co_return co_await to.Write(...);
//   }
//
// A task runs on one thread, from its first to its last line; RunOn()
// (loop.h) is the way to run one elsewhere. It always runs to completion: the
// kernel may own its buffers, so destroying one that has begun and not ended
// is a bug.
//
// Awaiting resumes the child inside await_suspend and returns false when it
// ended there, so that any number of synchronous completions in a row needs no
// stack (symmetric transfer overflows it at -O0 and under sanitizers).
//
// Parameters of a coroutine are taken by value, or by reference to what the
// caller keeps until the end. No coroutine lambdas with captures.

#ifndef BGFS_GRAPH_ASYNC_TASK_H_
#define BGFS_GRAPH_ASYNC_TASK_H_

#include <coroutine>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <utility>

#include "graph/async/check.h"
#include "graph/async/frame_pool.h"

namespace bgfs {

template <typename T>
class Task;

namespace internal {

class TaskPromiseBase {
 public:
  static void* operator new(size_t bytes) { return AllocateFrame(bytes); }
  static void operator delete(void* frame, size_t bytes) {
    FreeFrame(frame, bytes);
  }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      TaskPromiseBase& promise = handle.promise();
      if (promise.state_ == State::kStarting) {
        promise.state_ = State::kDone;
        return;
      }
      promise.state_ = State::kDone;
      promise.continuation_.resume();
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::abort(); }

  // Starts the coroutine on behalf of `continuation`; true if it is suspended
  // and will resume the continuation, false if it has ended.
  template <typename Promise>
  bool Start(std::coroutine_handle<Promise> self,
             std::coroutine_handle<> continuation) {
    continuation_ = continuation;
    state_ = State::kStarting;
    self.resume();
    if (state_ == State::kDone) return false;
    state_ = State::kSuspended;
    return true;
  }

  bool unfinished() const {
    return state_ == State::kStarting || state_ == State::kSuspended;
  }

 private:
  enum class State : uint8_t { kNew, kStarting, kSuspended, kDone };

  std::coroutine_handle<> continuation_;
  State state_ = State::kNew;
};

template <typename T>
class TaskPromise : public TaskPromiseBase {
 public:
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T Take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class TaskPromise<void> : public TaskPromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() {}
  void Take() {}
};

}  // namespace internal

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (!handle_) return;
    BGFS_CHECK(!handle_.promise().unfinished());
    handle_.destroy();
  }

  struct Awaiter {
    Handle handle;
    bool await_ready() noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> continuation) {
      return handle.promise().Start(handle, continuation);
    }
    T await_resume() { return handle.promise().Take(); }
  };
  Awaiter operator co_await() && { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

namespace internal {

template <typename T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}

inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>(
      std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

// A coroutine that belongs to nobody: it destroys itself at its end.
struct Detached {
  struct promise_type {
    static void* operator new(size_t bytes) { return AllocateFrame(bytes); }
    static void operator delete(void* frame, size_t bytes) {
      FreeFrame(frame, bytes);
    }
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void unhandled_exception() noexcept { std::abort(); }
    void return_void() {}
  };
};

inline Detached RunDetached(Task<void> task) { co_await std::move(task); }

}  // namespace internal

// Runs `task` on this thread without waiting for it: it starts at once and
// frees itself. Whoever spawns counts it (a gate, a counter), so that somebody
// can wait for its end.
inline void Spawn(Task<void> task) { internal::RunDetached(std::move(task)); }

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_TASK_H_
