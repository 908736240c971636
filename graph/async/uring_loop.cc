#include "graph/async/uring_loop.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/notification.h"
#include "graph/async/thread_pool.h"
#include "graph/async/uring_file.h"

namespace bgfs {
namespace {

constexpr unsigned kSubmissionEntries = 512;
constexpr unsigned kCompletionEntries = 4096;
constexpr size_t kSqeBytes = 128;  // IORING_SETUP_SQE128

// user_data of entries that complete nothing, and of the wake-up read.
constexpr uint64_t kNobody = 0;
constexpr uint64_t kWakeUp = 1;

}  // namespace

absl::StatusOr<std::unique_ptr<UringLoop>> UringLoop::Start(std::string name) {
  std::unique_ptr<UringLoop> loop(new UringLoop);
  Notification started;
  absl::Status status;
  UringLoop* raw = loop.get();
  loop->thread_ = std::thread([raw, &name, &started, &status] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    status = raw->SetUp();
    const bool run = status.ok();
    started.Notify();
    if (run) raw->ThreadMain();
  });
  started.Wait();
  if (!status.ok()) return status;
  return loop;
}

// DEFER_TASKRUN binds a ring to the thread that makes it.
absl::Status UringLoop::SetUp() {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                 IORING_SETUP_SQE128;
  params.cq_entries = kCompletionEntries;
  const int error =
      io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  if (error < 0) {
    return absl::Status(
        absl::ErrnoToStatusCode(-error),
        absl::StrCat("cannot set up io_uring: ", std::strerror(-error),
                     "; it needs Linux 6.1 and a seccomp filter that allows "
                     "it"));
  }
  event_fd_ = eventfd(0, EFD_CLOEXEC);
  if (event_fd_ < 0) {
    const int eventfd_error = errno;
    io_uring_queue_exit(&ring_);
    return absl::ErrnoToStatus(eventfd_error, "cannot create an eventfd");
  }
  return absl::OkStatus();
}

UringLoop::~UringLoop() {
  if (event_fd_ >= 0) {
    Post([this] { stop_.store(true, std::memory_order_relaxed); });
  }
  if (thread_.joinable()) thread_.join();
  if (event_fd_ >= 0) close(event_fd_);
}

void UringLoop::Wake() {
  if (!asleep_.exchange(false)) return;
  const uint64_t one = 1;
  const ssize_t written = write(event_fd_, &one, sizeof one);
  BGFS_CHECK(written == sizeof one);
}

void UringLoop::ThreadMain() {
  SetCurrent(this);
  ArmWakeUp();
  while (true) {
    RunTurn();
    const bool idle = !has_ready() && !has_posts();
    if (idle && stop_.load(std::memory_order_relaxed)) break;
    SubmitAndWait(idle);
    Reap();
  }
  SetCurrent(nullptr);
  io_uring_queue_exit(&ring_);
}

void UringLoop::SubmitAndWait(bool may_sleep) {
  if (may_sleep) {
    asleep_.store(true);
    // A post after this look finds asleep_ set and writes the eventfd.
    if (has_posts()) may_sleep = false;
  }
  int result = 0;
  if (!may_sleep) {
    result = io_uring_submit_and_get_events(&ring_);
  } else {
    const int64_t deadline = NextDeadlineNs();
    if (deadline == std::numeric_limits<int64_t>::max()) {
      result = io_uring_submit_and_wait(&ring_, 1);
    } else {
      const int64_t left = std::max<int64_t>(0, deadline - NowNs());
      __kernel_timespec timeout{left / 1000000000, left % 1000000000};
      io_uring_cqe* cqe = nullptr;
      result =
          io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
    }
  }
  asleep_.store(false);
  BGFS_CHECK(result >= 0 || result == -EINTR || result == -ETIME ||
             result == -EAGAIN || result == -EBUSY);
}

void UringLoop::Reap() {
  for (unsigned left = kCompletionEntries; left > 0; --left) {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(&ring_, &cqe) != 0) return;
    const uint64_t user_data = cqe->user_data;
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    if (user_data == kNobody) continue;
    if (user_data == kWakeUp) {
      ArmWakeUp();
      continue;
    }
    auto* completion = reinterpret_cast<Completion*>(user_data);
    completion->result = result;
    completion->waiter.resume();
  }
}

io_uring_sqe* UringLoop::NewSqe(Completion* completion) {
  BGFS_CHECK(IsCurrent());
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  std::memset(sqe, 0, kSqeBytes);
  sqe->user_data = reinterpret_cast<uint64_t>(completion);
  return sqe;
}

void UringLoop::SubmitNow() { io_uring_submit(&ring_); }

bool UringLoop::MayHaveCompleted(const Completion* completion) const {
  if ((IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0) {
    return true;
  }
  unsigned head = 0;
  const io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    if (cqe->user_data == reinterpret_cast<uint64_t>(completion)) return true;
  }
  return false;
}

void UringLoop::ArmWakeUp() {
  io_uring_sqe* sqe = NewSqe(nullptr);
  io_uring_prep_read(sqe, event_fd_, &event_value_, sizeof event_value_, 0);
  sqe->user_data = kWakeUp;
}

int64_t UringLoop::NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

uint64_t UringLoop::Random() { return absl::Uniform<uint64_t>(random_); }

void UringLoop::StartPoll(int fd, Completion* completion) {
  io_uring_sqe* sqe = NewSqe(completion);
  sqe->opcode = IORING_OP_POLL_ADD;
  sqe->fd = fd;
  sqe->poll32_events = POLLIN;
}

void UringLoop::CancelPoll(Completion* completion) {
  io_uring_sqe* sqe = NewSqe(nullptr);
  sqe->opcode = IORING_OP_POLL_REMOVE;
  sqe->fd = -1;
  sqe->addr = reinterpret_cast<uint64_t>(completion);
}

void UringLoop::StartOffload(Offload kind, Work work, Completion* completion) {
  ThreadPool& pool = kind == Offload::kCompute ? ThreadPool::Compute()
                                               : ThreadPool::Blocking();
  pool.Add([this, completion, work = std::move(work)]() mutable {
    work();
    work = nullptr;
    Post([completion] { completion->waiter.resume(); });
  });
}

Task<IoResult<std::unique_ptr<File>>> UringLoop::Open(std::string path,
                                                      OpenOptions options) {
  UringFile::OpenResult result;
  co_await Run(Offload::kBlocking, [&path, &options, &result] {
    result = UringFile::OpenNow(path, options);
  });
  if (result.fd < 0) co_return IoError(result.error);
  co_return std::unique_ptr<File>(
      std::make_unique<UringFile>(this, result, options));
}

}  // namespace bgfs
