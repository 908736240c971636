#include "graph/async/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <thread>
#include <utility>

namespace bgfs {

void ThreadPool::Add(Work work) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  added_.notify_one();
  if (static_cast<int>(queue_.size()) <= idle_ || threads_ >= max_threads_) {
    return;
  }
  ++threads_;
  std::thread([this] { RunThread(); }).detach();
}

void ThreadPool::RunThread() {
  pthread_setname_np(pthread_self(), name_);
  while (true) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      ++idle_;
      added_.wait(lock, [this] { return !queue_.empty(); });
      --idle_;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

ThreadPool& ThreadPool::Compute() {
  static auto* pool = new ThreadPool(
      "bgfs-compute",
      std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  return *pool;
}

ThreadPool& ThreadPool::Blocking() {
  static auto* pool = new ThreadPool("bgfs-blocking", 256);
  return *pool;
}

}  // namespace bgfs
