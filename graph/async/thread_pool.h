// Threads for work that must not run on a loop: one pool of a thread a CPU for
// computing (compression), one that grows for system calls that block. Both
// live as long as the process.

#ifndef BGFS_GRAPH_ASYNC_THREAD_POOL_H_
#define BGFS_GRAPH_ASYNC_THREAD_POOL_H_

#include <condition_variable>
#include <deque>
#include <mutex>

#include "absl/functional/any_invocable.h"

namespace bgfs {

class ThreadPool {
 public:
  using Work = absl::AnyInvocable<void()>;

  // A thread is started when work waits and none is idle, up to `max_threads`.
  // `name` is shown by top(1); 15 bytes at most.
  ThreadPool(const char* name, int max_threads)
      : name_(name), max_threads_(max_threads) {}

  // From any thread. First in, first out.
  void Add(Work work);

  static ThreadPool& Compute();
  static ThreadPool& Blocking();

 private:
  void RunThread();

  const char* const name_;
  const int max_threads_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable added_;
  std::deque<Work> queue_;
  int threads_ = 0;
  int idle_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_THREAD_POOL_H_
