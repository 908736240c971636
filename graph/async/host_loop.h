// HostLoop: what the loop's bodies on the kernel share: a thread, its wake-up,
// clock, chance, offloaded work and opening files. What differs is how a body
// waits and who does the file operations:
//
//   UringLoop    one io_uring for all (uring_loop.h)
//   ThreadLoop   ppoll(2), and threads for what may wait (thread_loop.h)
//
// MakeLoop() (make_loop.h) chooses.
//
// The eventfd is the way to a thread that sleeps: a body's wait ends when it
// may be read.

#ifndef BGFS_GRAPH_ASYNC_HOST_LOOP_H_
#define BGFS_GRAPH_ASYNC_HOST_LOOP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/random/random.h"
#include "absl/strings/string_view.h"
#include "graph/async/host_file.h"
#include "graph/async/loop.h"

namespace bgfs {

class HostLoop : public Loop {
 public:
  // The thread has ended: a body's destructor calls End().
  ~HostLoop() override;

  // "io_uring" or "threads".
  virtual absl::string_view body() const = 0;
  // Why it is not io_uring, in a few words; empty where it is.
  virtual absl::string_view why_not_uring() const = 0;

  uint64_t Random() final;
  Task<IoResult<std::unique_ptr<File>>> Open(std::string path,
                                             OpenOptions options) final;
  void StartOffload(Offload kind, Work work, Completion* completion) final;

 protected:
  // Starts the thread, named `name` for top(1), 15 bytes at most. Fails as
  // eventfd(2) or SetUp() does, and is not called again then.
  IoStatus Begin(const std::string& name);
  // Ends the thread, if it was started. Whatever was posted or is ready still
  // runs; nothing may be in flight in the kernel.
  void End();

  // What a body adds, all on the loop's thread. SetUp() comes first; TearDown()
  // last, where SetUp() succeeded.
  virtual IoStatus SetUp() = 0;
  virtual void TearDown() = 0;
  // Hands what this turn has started to the kernel, and sleeps, if it may,
  // until something has happened, event_fd() may be read, or a timer is due.
  virtual void SubmitAndWait(bool may_sleep) = 0;
  // Completes what has happened.
  virtual void Reap() = 0;
  virtual std::unique_ptr<File> MakeFile(HostFile::OpenResult opened,
                                         OpenOptions options) = 0;

  // Only the loop's thread reads it, and only where it may be read.
  int event_fd() const { return event_fd_; }

 private:
  void Wake() final;
  int64_t ReadClockNs() final;
  void ThreadMain();

  int event_fd_ = -1;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stop_{false};
  absl::BitGen random_;
  std::thread thread_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_HOST_LOOP_H_
