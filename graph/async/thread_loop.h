// ThreadLoop: the loop's body where io_uring is not to be had, as in containers
// whose seccomp filter denies it. Its thread waits in ppoll(2) for the eventfd,
// the descriptors that are polled, and the next timer; file operations that may
// wait are threads' (thread_file.h), which post what came of them.
//
// A turn costs one ppoll over all descriptors that are polled, one for each
// connection served here: nothing for a few, some 10 µs for a hundred.

#ifndef BGFS_GRAPH_ASYNC_THREAD_LOOP_H_
#define BGFS_GRAPH_ASYNC_THREAD_LOOP_H_

#include <poll.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "graph/async/host_loop.h"

namespace bgfs {

class ThreadLoop final : public HostLoop {
 public:
  // Starts the thread, `name` for top(1). Errors are eventfd(2)'s.
  static IoResult<std::unique_ptr<ThreadLoop>> Start(const std::string& name,
                                                     std::string why_not_uring);
  ~ThreadLoop() override;

  absl::string_view body() const override { return "threads"; }
  absl::string_view why_not_uring() const override { return why_not_uring_; }
  void StartPoll(int fd, Completion* completion) override;
  void CancelPoll(Completion* completion) override;

 private:
  using Waiters = absl::InlinedVector<Completion*, 1>;

  explicit ThreadLoop(std::string why_not_uring)
      : why_not_uring_(std::move(why_not_uring)) {}

  IoStatus SetUp() override;
  void TearDown() override {}
  void SubmitAndWait(bool may_sleep) override;
  void Reap() override;
  std::unique_ptr<File> MakeFile(HostFile::OpenResult opened,
                                 OpenOptions options) override;
  void RemovePoll(size_t index);

  const std::string why_not_uring_;
  // Each descriptor once, the eventfd first, and who waits for it.
  std::vector<pollfd> polled_;
  std::vector<Waiters> waiters_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_THREAD_LOOP_H_
