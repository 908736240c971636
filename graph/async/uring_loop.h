// UringLoop: the loop's body on the kernel. One thread, one io_uring
// (SINGLE_ISSUER, DEFER_TASKRUN): whatever the tasks of a turn started goes to
// the kernel with one io_uring_enter, which also waits for the next event.

#ifndef BGFS_GRAPH_ASYNC_URING_LOOP_H_
#define BGFS_GRAPH_ASYNC_URING_LOOP_H_

#include <liburing.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graph/async/loop.h"

namespace bgfs {

class UringLoop final : public Loop {
 public:
  // Starts the thread and its ring. `name` is shown by top(1), 15 bytes at
  // most. Fails where io_uring is not to be had (an old kernel, seccomp).
  static absl::StatusOr<std::unique_ptr<UringLoop>> Start(std::string name);

  // Ends the thread. Whatever was posted or is ready still runs; nothing may
  // be in flight in the kernel.
  ~UringLoop() override;

  int64_t NowNs() override;
  uint64_t Random() override;
  Task<IoResult<std::unique_ptr<File>>> Open(std::string path,
                                             OpenOptions options) override;
  void StartPoll(int fd, Completion* completion) override;
  void CancelPoll(Completion* completion) override;
  void StartOffload(Offload kind, Work work, Completion* completion) override;

  // For the bodies of files and transports: a free submission entry of 128
  // bytes, zeroed, whose user_data completes `completion` (null: nobody). On
  // the loop's thread only; the entry is submitted at the end of the turn.
  io_uring_sqe* NewSqe(Completion* completion);
  // Submits before the end of the turn.
  void SubmitNow();
  // Whether its result may be there already, though nobody was told.
  bool MayHaveCompleted(const Completion* completion) const;

 private:
  UringLoop() = default;

  void Wake() override;
  absl::Status SetUp();
  void ThreadMain();
  void SubmitAndWait(bool may_sleep);
  void Reap();
  void ArmWakeUp();

  io_uring ring_{};
  int event_fd_ = -1;
  uint64_t event_value_ = 0;  // where the ring reads event_fd_ to
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stop_{false};
  absl::BitGen random_;
  std::thread thread_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_URING_LOOP_H_
