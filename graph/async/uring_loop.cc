#include "graph/async/uring_loop.h"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "graph/async/uring_file.h"

namespace bgfs {
namespace {

constexpr unsigned kSubmissionEntries = 512;
constexpr unsigned kCompletionEntries = 4096;
constexpr size_t kSqeBytes = 128;  // IORING_SETUP_SQE128

// user_data of entries that complete nothing, and of the wake-up read.
constexpr uint64_t kNobody = 0;
constexpr uint64_t kWakeUp = 1;

// Of io_uring_enter(2): what failed comes again in the next turn.
void CheckEntered(int result) {
  BGFS_CHECK(result >= 0 || result == -EINTR || result == -ETIME ||
             result == -EAGAIN || result == -EBUSY);
}

// Whether this thread is allowed more than one processor.
bool HasSeveralCpus() {
  cpu_set_t cpus;
  return sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
}

}  // namespace

IoResult<std::unique_ptr<UringLoop>> UringLoop::Start(const std::string& name) {
  std::unique_ptr<UringLoop> loop(new UringLoop);
  if (const IoStatus status = loop->Begin(name); !status.ok()) return status;
  return loop;
}

UringLoop::~UringLoop() { End(); }

IoStatus UringLoop::SetUp() {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SQE128;
  params.cq_entries = kCompletionEntries;
  const int error =
      io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
  if (error < 0) return IoError(-error);
  // A child that maps the ring would keep it, and with it the devices that wait
  // in it, after we have died.
  if (io_uring_ring_dontfork(&ring_) != 0) errno = 0;
  ArmWakeUp();
  may_spin_ = HasSeveralCpus();
  return IoStatus();
}

void UringLoop::TearDown() { io_uring_queue_exit(&ring_); }

void UringLoop::SubmitAndWait(bool may_sleep) {
  if (!may_sleep) {
    CheckEntered(io_uring_submit_and_get_events(&ring_));
    return;
  }
  if (may_spin_ && short_sleeps_ >= kShortSleeps) {
    if (Spin()) return;
    short_sleeps_ = 0;
  }
  const int64_t begin = NowNs();
  Sleep();
  short_sleeps_ = NowNs() - begin < kShortSleepNs ? short_sleeps_ + 1 : 0;
}

bool UringLoop::Spin() {
  CheckEntered(io_uring_submit_and_get_events(&ring_));
  for (const int64_t end = NowNs() + kSpinNs; NowNs() < end;) {
    if (io_uring_cq_ready(&ring_) > 0) return true;
    const unsigned flags = IO_URING_READ_ONCE(*ring_.sq.kflags);
    if ((flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0) {
      CheckEntered(io_uring_get_events(&ring_));
    }
  }
  return false;
}

void UringLoop::Sleep() {
  const int64_t deadline = NextDeadlineNs();
  if (deadline == std::numeric_limits<int64_t>::max()) {
    CheckEntered(io_uring_submit_and_wait(&ring_, 1));
    return;
  }
  const int64_t left = std::max<int64_t>(0, deadline - NowNs());
  __kernel_timespec timeout{left / 1000000000, left % 1000000000};
  io_uring_cqe* cqe = nullptr;
  CheckEntered(
      io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr));
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
  io_uring_prep_read(sqe, event_fd(), &event_value_, sizeof event_value_, 0);
  sqe->user_data = kWakeUp;
}

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

std::unique_ptr<File> UringLoop::MakeFile(HostFile::OpenResult opened,
                                          OpenOptions options) {
  return std::make_unique<UringFile>(this, opened, options);
}

}  // namespace bgfs
