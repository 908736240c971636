#include "graph/async/copy_lane.h"

#include <utility>

#include "graph/async/thread_pool.h"

namespace bgfs {

void CopyLane::Add(Loop::Work work, Loop::Work done) {
  ++in_lane_;
  Loop::Work last = [this, done = std::move(done)]() mutable {
    --in_lane_;
    // Last: whoever waited may close the file.
    done();
  };
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->waiting.push_back({std::move(work), std::move(last)});
    if (shared_->has_thread) return;
    shared_->has_thread = true;
  }
  ThreadPool::Blocking().Add(
      [loop = loop_, shared = shared_] { Run(loop, shared.get()); });
}

void CopyLane::Run(Loop* loop, Shared* shared) {
  while (true) {
    Item item;
    {
      const std::lock_guard lock(shared->mutex);
      if (shared->waiting.empty()) {
        shared->has_thread = false;
        return;
      }
      item = std::move(shared->waiting.front());
      shared->waiting.pop_front();
    }
    item.work();
    loop->Post(std::move(item.done));
  }
}

}  // namespace bgfs
