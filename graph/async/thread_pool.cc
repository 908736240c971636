#include "graph/async/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

namespace bgfs {

void ThreadPool::Add(Work work) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    added_.notify_one();
    if (EnsureThread()) return;
    work = std::move(queue_.back());
    queue_.pop_back();
  }
  work();
}

bool ThreadPool::EnsureThread() {
  if (static_cast<int>(queue_.size()) <= idle_ || threads_ >= max_threads_) {
    return true;
  }
  try {
    std::thread([this] { RunThread(); }).detach();
    ++threads_;
    ++idle_;  // It is from its birth: this work, or the next, is its own.
  } catch (const std::system_error&) {
    // A limit on processes: it may be another's turn next time.
    return threads_ > 0;
  }
  return true;
}

void ThreadPool::RunThread() {
  pthread_setname_np(pthread_self(), name_);
  while (Work work = WaitForWork()) {
    work();
    work = nullptr;
    const std::lock_guard lock(mutex_);
    ++idle_;
  }
}

ThreadPool::Work ThreadPool::WaitForWork() {
  std::unique_lock lock(mutex_);
  const auto added = [this] { return !queue_.empty(); };
  if (!added_.wait_for(lock, idle_limit_, added)) {
    if (idle_ > 1) {
      --idle_;
      --threads_;
      return nullptr;
    }
    added_.wait(lock, added);  // The last one stays.
  }
  --idle_;
  Work work = std::move(queue_.front());
  queue_.pop_front();
  return work;
}

int ThreadPool::threads() {
  const std::lock_guard lock(mutex_);
  return threads_;
}

ThreadPool& ThreadPool::Compute() {
  static auto* pool = new ThreadPool(
      "bgfs-compute",
      std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  return *pool;
}

ThreadPool& ThreadPool::Blocking() {
  static auto* pool = new ThreadPool("bgfs-blocking", kMaxBlocking);
  return *pool;
}

}  // namespace bgfs
