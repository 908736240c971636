// Threads for work that must not run on a loop: one pool of a thread a CPU for
// computing (compression), one that grows for system calls that block. Both
// live as long as the process.

#ifndef BGFS_GRAPH_ASYNC_THREAD_POOL_H_
#define BGFS_GRAPH_ASYNC_THREAD_POOL_H_

#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

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
  absl::Mutex mutex_;
  std::deque<Work> queue_ ABSL_GUARDED_BY(mutex_);
  int threads_ ABSL_GUARDED_BY(mutex_) = 0;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_THREAD_POOL_H_
