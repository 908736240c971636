// Loop: one thread's turn-taker, and the seam to the operating system: time,
// randomness, files, waiting for descriptors, and work on other threads all go
// through it. Three bodies: two on the kernel (host_loop.h), on io_uring and on
// threads, and the simulated one of the tests. What all share lives here: the
// run queue, timers, and posts from other threads.
//
// A loop never blocks in a system call that can take long, and nothing on it
// waits for another thread.

#ifndef BGFS_GRAPH_ASYNC_LOOP_H_
#define BGFS_GRAPH_ASYNC_LOOP_H_

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/functional/any_invocable.h"
#include "graph/async/file.h"
#include "graph/async/io_status.h"
#include "graph/async/task.h"

namespace bgfs {

class Loop {
 public:
  using Work = absl::AnyInvocable<void()>;
  enum class Offload : uint8_t {
    kCompute,   // CPU-heavy: a pool of one thread a CPU
    kBlocking,  // system calls that may block: a thread made for it
  };

  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop() = default;

  // The loop whose thread this is, or null.
  static Loop* Current();
  bool IsCurrent() const { return Current() == this; }

  // From any thread: runs `work` on this loop, in order of arrival. The loop
  // must outlive it.
  void Post(Work work);

  // The rest only on this loop's thread.

  // Resumes `handle` later in this or the next turn, first in, first out.
  void Schedule(std::coroutine_handle<> handle) { ready_.push_back(handle); }

  // Monotonic nanoseconds (virtual in the simulation).
  int64_t NowNs() { return recent_ns_ = ReadClockNs(); }
  // What NowNs() gave last, which was in this turn, or after it was waited for:
  // for whoever asks when the turn came to something, at no cost.
  int64_t RecentNs() const { return recent_ns_; }
  virtual uint64_t Random() = 0;
  // Which turn this is: what runs in one turn is known to have waited together.
  uint64_t turn() const { return turn_; }

  // Opens a host file. Errors are open(2)'s.
  virtual Task<IoResult<std::unique_ptr<File>>> Open(std::string path,
                                                     OpenOptions options) = 0;

  // Starts waiting until `fd` may be read (POLLIN, POLLERR or POLLHUP). The
  // result is the poll mask or a negative errno.
  virtual void StartPoll(int fd, Completion* completion) = 0;
  // Ends such a wait early: its result is then -ECANCELED.
  virtual void CancelPoll(Completion* completion) = 0;

  // Runs `work` off this thread, then completes.
  virtual void StartOffload(Offload kind, Work work,
                            Completion* completion) = 0;

  // Resumes completion's waiter at NowNs() >= deadline_ns.
  void StartTimer(int64_t deadline_ns, Completion* completion);
  // Ends the timer early: its result is -ECANCELED. No effect once it fired.
  void CancelTimer(Completion* completion);

  // Awaitables over the above.
  auto PollIn(int fd);
  auto Run(Offload kind, Work work);
  auto SleepUntil(int64_t deadline_ns);
  auto Yield();

 protected:
  // Makes the loop's thread look at the posts; from any thread.
  virtual void Wake() = 0;
  virtual int64_t ReadClockNs() = 0;

  static void SetCurrent(Loop* loop);

  // One turn of what the bodies share: posts, timers that are due, and
  // everything ready at its start. False if there was nothing to do.
  bool RunTurn();
  bool has_ready() const { return !ready_.empty(); }
  // Sequentially consistent with Wake(): a body that says that it sleeps and
  // then sees no post is woken by the next one.
  bool has_posts() const { return posted_any_.load(); }
  // Of the earliest timer, or INT64_MAX.
  int64_t NextDeadlineNs() const;

 private:
  struct Timer {
    int64_t deadline_ns;
    uint64_t order;
    Completion* completion;
    bool operator<(const Timer& other) const {
      return deadline_ns != other.deadline_ns ? deadline_ns < other.deadline_ns
                                              : order < other.order;
    }
  };

  void RunPosts();

  std::deque<std::coroutine_handle<>> ready_;
  absl::btree_set<Timer> timers_;
  uint64_t next_timer_ = 0;
  uint64_t turn_ = 1;
  int64_t recent_ns_ = 0;

  std::atomic<bool> posted_any_{false};
  std::mutex mutex_;
  std::vector<Work> posts_;  // guarded by mutex_
};

namespace internal {

// Base of awaitables that wait for a Completion.
class CompletionAwaiter {
 public:
  bool await_ready() noexcept { return false; }
  int64_t await_resume() noexcept { return completion_.result; }

 protected:
  Completion completion_;
};

}  // namespace internal

inline auto Loop::PollIn(int fd) {
  struct Awaiter : internal::CompletionAwaiter {
    Loop* loop;
    int fd;
    void await_suspend(std::coroutine_handle<> waiter) {
      completion_.waiter = waiter;
      loop->StartPoll(fd, &completion_);
    }
  };
  Awaiter awaiter;
  awaiter.loop = this;
  awaiter.fd = fd;
  return awaiter;
}

inline auto Loop::Run(Offload kind, Work work) {
  struct Awaiter : internal::CompletionAwaiter {
    Loop* loop;
    Offload kind;
    Work work;
    void await_suspend(std::coroutine_handle<> waiter) {
      completion_.waiter = waiter;
      loop->StartOffload(kind, std::move(work), &completion_);
    }
  };
  Awaiter awaiter;
  awaiter.loop = this;
  awaiter.kind = kind;
  awaiter.work = std::move(work);
  return awaiter;
}

inline auto Loop::SleepUntil(int64_t deadline_ns) {
  struct Awaiter : internal::CompletionAwaiter {
    Loop* loop;
    int64_t deadline_ns;
    void await_suspend(std::coroutine_handle<> waiter) {
      completion_.waiter = waiter;
      loop->StartTimer(deadline_ns, &completion_);
    }
  };
  Awaiter awaiter;
  awaiter.loop = this;
  awaiter.deadline_ns = deadline_ns;
  return awaiter;
}

inline auto Loop::Yield() {
  struct Awaiter {
    Loop* loop;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      loop->Schedule(waiter);
    }
    void await_resume() noexcept {}
  };
  return Awaiter{this};
}

// Runs `task` on `loop` and gives its result on the loop that awaits; on the
// same loop it is a plain await. Neither may end before it.
template <typename T>
Task<T> RunOn(Loop& loop, Task<T> task);

// Runs `task` on `loop` and waits for it, blocking this thread, which must not
// be a loop's (nor a simulated loop's: SimWorld has its own).
template <typename T>
T BlockOn(Loop& loop, Task<T> task);

}  // namespace bgfs

#include "graph/async/loop_inl.h"  // IWYU pragma: export

#endif  // BGFS_GRAPH_ASYNC_LOOP_H_
