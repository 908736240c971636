// UringLoop: the loop's body on io_uring (SINGLE_ISSUER, DEFER_TASKRUN):
// whatever the tasks of a turn started goes to the kernel with one
// io_uring_enter, which also waits for the next event.
//
// Where that has come at once for some time, as from a client that has one
// request under way and sends the next when it is answered, the loop looks for
// it for kSpinNs before it sleeps. Being woken by another processor costs more
// than that, in a virtual machine most of all (tests/bench/RESULTS.md).

#ifndef BGFS_GRAPH_ASYNC_URING_LOOP_H_
#define BGFS_GRAPH_ASYNC_URING_LOOP_H_

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <string>

#include "graph/async/host_loop.h"

namespace bgfs {

class UringLoop final : public HostLoop {
 public:
  // Starts the thread, `name` for top(1), and its ring. Where io_uring is not
  // to be had the error is io_uring_setup(2)'s, EINVAL on a kernel older
  // than 6.1; else eventfd(2)'s.
  static IoResult<std::unique_ptr<UringLoop>> Start(const std::string& name);
  ~UringLoop() override;

  absl::string_view body() const override { return "io_uring"; }
  absl::string_view why_not_uring() const override { return ""; }
  void StartPoll(int fd, Completion* completion) override;
  void CancelPoll(Completion* completion) override;

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

  // SINGLE_ISSUER binds the ring to the thread that makes it.
  IoStatus SetUp() override;
  void TearDown() override;
  void SubmitAndWait(bool may_sleep) override;
  // Submits; false if for kSpinNs there was nothing to reap.
  bool Spin();
  // Until something can be reaped, or a timer is due.
  void Sleep();
  void Reap() override;
  std::unique_ptr<File> MakeFile(HostFile::OpenResult opened,
                                 OpenOptions options) override;
  void ArmWakeUp();

  static constexpr int64_t kSpinNs = 50'000;
  // A sleep as short as this was mostly waking up.
  static constexpr int64_t kShortSleepNs = 2 * kSpinNs;
  // So many in a row make spinning worth a try.
  static constexpr int kShortSleeps = 4;

  io_uring ring_{};
  bool may_spin_ = false;     // there is a processor for the others meanwhile
  int short_sleeps_ = 0;      // in a row
  uint64_t event_value_ = 0;  // where the ring reads event_fd() to
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_URING_LOOP_H_
