// Threads for work that must not run on a loop: one pool of a thread a CPU for
// computing (compression), one that grows for system calls that block. Both
// live as long as the process; threads that have had nothing to do for a while
// end, all but one.

#ifndef BGFS_GRAPH_ASYNC_THREAD_POOL_H_
#define BGFS_GRAPH_ASYNC_THREAD_POOL_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "absl/functional/any_invocable.h"

namespace bgfs {

class ThreadPool {
 public:
  using Work = absl::AnyInvocable<void()>;
  // Of Blocking(). Who hands it work for a disk bounds how much at a time, so
  // that many disks can hang and leave threads for the others.
  static constexpr int kMaxBlocking = 1024;
  static constexpr std::chrono::milliseconds kIdleLimit{10'000};

  // A thread is started when work waits and none is idle, up to `max_threads`.
  // `name` is shown by top(1); 15 bytes at most.
  ThreadPool(const char* name, int max_threads,
             std::chrono::milliseconds idle_limit = kIdleLimit)
      : name_(name), max_threads_(max_threads), idle_limit_(idle_limit) {}

  // From any thread. First in, first out. Where the system refuses a thread,
  // work waits for those there are; refused the first, the caller does it.
  void Add(Work work);

  // How many there are now.
  int threads();

  static ThreadPool& Compute();
  static ThreadPool& Blocking();

 private:
  // Starts a thread if need be; whether there is one at all. Under mutex_.
  bool EnsureThread();
  void RunThread();
  // Of an idle thread; empty when it is to end.
  Work WaitForWork();

  const char* const name_;
  const int max_threads_;
  const std::chrono::milliseconds idle_limit_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable added_;
  std::deque<Work> queue_;
  int threads_ = 0;
  int idle_ = 0;  // of threads_, those without work, from when they start
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_THREAD_POOL_H_
