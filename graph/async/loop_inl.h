// The templates of loop.h: running a task on another loop. Included by loop.h
// only.

#ifndef BGFS_GRAPH_ASYNC_LOOP_INL_H_
#define BGFS_GRAPH_ASYNC_LOOP_INL_H_

#include <optional>
#include <utility>

#include "graph/async/loop.h"
#include "graph/async/notification.h"

namespace bgfs {
namespace internal {

// Where a task's result waits until it is fetched.
template <typename T>
struct ResultSlot {
  std::optional<T> value;
  T Take() { return std::move(*value); }
};
template <>
struct ResultSlot<void> {
  void Take() {}
};

template <typename T>
Task<void> RunInto(Task<T> task, ResultSlot<T>* slot) {
  if constexpr (std::is_void_v<T>) {
    co_await std::move(task);
  } else {
    slot->value.emplace(co_await std::move(task));
  }
}

template <typename T>
Task<void> RunThenPost(Task<T> task, ResultSlot<T>* slot, Loop* back,
                       std::coroutine_handle<> waiter) {
  co_await RunInto(std::move(task), slot);
  back->Post([waiter] { waiter.resume(); });
}

template <typename T>
Task<void> RunThenNotify(Task<T> task, ResultSlot<T>* slot,
                         Notification* done) {
  co_await RunInto(std::move(task), slot);
  done->Notify();
}

// Moves the task to its loop, and the result back.
template <typename T>
struct RemoteAwaiter {
  Loop* there;
  Task<T>* task;
  ResultSlot<T>* slot;

  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    Loop* here = Loop::Current();
    BGFS_CHECK(here != nullptr);
    there->Post([here, waiter, remote_task = task, remote_slot = slot] {
      Spawn(RunThenPost(std::move(*remote_task), remote_slot, here, waiter));
    });
  }
  void await_resume() noexcept {}
};

template <typename T>
Task<T> RunOnLoop(Loop* loop, Task<T> task) {
  if (loop->IsCurrent()) co_return co_await std::move(task);
  ResultSlot<T> slot;
  co_await RemoteAwaiter<T>{loop, &task, &slot};
  co_return slot.Take();
}

}  // namespace internal

template <typename T>
Task<T> RunOn(Loop& loop, Task<T> task) {
  return internal::RunOnLoop(&loop, std::move(task));
}

template <typename T>
T BlockOn(Loop& loop, Task<T> task) {
  BGFS_CHECK(Loop::Current() == nullptr);
  internal::ResultSlot<T> slot;
  Notification done;
  loop.Post([&task, &slot, &done] {
    Spawn(internal::RunThenNotify(std::move(task), &slot, &done));
  });
  done.Wait();
  return slot.Take();
}

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_LOOP_INL_H_
