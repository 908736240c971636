// Something under way elsewhere, for a thread that may give up waiting for it:
// a disk that hangs must not keep the daemon from ending its other parts.

#ifndef BGFS_CONFIG_PENDING_H_
#define BGFS_CONFIG_PENDING_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "graph/async/loop.h"
#include "graph/async/task.h"

namespace bgfs::config {

using Deadline = std::chrono::steady_clock::time_point;

template <typename T>
class Pending {
 public:
  // A task on a loop that is not this thread's. The loop and what the task
  // refers to must outlive the task, also when nobody waits for it any more.
  static Pending Start(Loop* loop, Task<T> task) {
    auto state = std::make_shared<State>();
    auto shared = std::make_shared<Task<T>>(std::move(task));
    loop->Post([state, shared] { Spawn(Run(state, shared)); });
    return Pending(std::move(state));
  }

  // A call that blocks, on a thread of its own; the same holds for it.
  static Pending Call(std::function<T()> call) {
    auto state = std::make_shared<State>();
    std::thread([state, call = std::move(call)] {
      state->Set(call());
    }).detach();
    return Pending(std::move(state));
  }

  // Blocks. The result, once; or null if there is none by then.
  std::optional<T> WaitUntil(Deadline deadline) {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->ended.wait_until(lock, deadline,
                             [this] { return state_->result.has_value(); });
    return std::exchange(state_->result, std::nullopt);
  }

 private:
  struct State {
    void Set(T value) {
      const std::lock_guard<std::mutex> lock(mutex);
      result.emplace(std::move(value));
      ended.notify_all();
    }

    std::mutex mutex;
    std::condition_variable ended;
    std::optional<T> result;
  };

  explicit Pending(std::shared_ptr<State> state) : state_(std::move(state)) {}

  static Task<void> Run(std::shared_ptr<State> state,
                        std::shared_ptr<Task<T>> task) {
    state->Set(co_await std::move(*task));
  }

  std::shared_ptr<State> state_;
};

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_PENDING_H_
