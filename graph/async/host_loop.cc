#include "graph/async/host_loop.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "graph/async/notification.h"
#include "graph/async/thread_pool.h"

namespace bgfs {

HostLoop::~HostLoop() {
  BGFS_CHECK(!thread_.joinable());
  if (event_fd_ >= 0) close(event_fd_);
}

IoStatus HostLoop::Begin(const std::string& name) {
  event_fd_ = eventfd(0, EFD_CLOEXEC);
  if (event_fd_ < 0) return IoError(errno);
  Notification started;
  IoStatus status;
  thread_ = std::thread([this, &name, &started, &status] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    SetCurrent(this);
    status = SetUp();
    const bool run = status.ok();
    started.Notify();
    if (run) ThreadMain();
  });
  started.Wait();
  if (!status.ok()) thread_.join();
  return status;
}

void HostLoop::End() {
  if (!thread_.joinable()) return;
  Post([this] { stop_.store(true, std::memory_order_relaxed); });
  thread_.join();
}

void HostLoop::Wake() {
  if (!asleep_.exchange(false)) return;
  const uint64_t one = 1;
  const ssize_t written = write(event_fd_, &one, sizeof one);
  BGFS_CHECK(written == sizeof one);
}

void HostLoop::ThreadMain() {
  NowNs();
  while (true) {
    RunTurn();
    const bool idle = !has_ready() && !has_posts();
    if (idle && stop_.load(std::memory_order_relaxed)) break;
    if (idle) asleep_.store(true);
    // A post after this look finds asleep_ set and writes the eventfd.
    SubmitAndWait(idle && !has_posts());
    asleep_.store(false);
    NowNs();  // for RecentNs()
    Reap();
  }
  SetCurrent(nullptr);
  TearDown();
}

int64_t HostLoop::ReadClockNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

uint64_t HostLoop::Random() { return absl::Uniform<uint64_t>(random_); }

void HostLoop::StartOffload(Offload kind, Work work, Completion* completion) {
  ThreadPool& pool = kind == Offload::kCompute ? ThreadPool::Compute()
                                               : ThreadPool::Blocking();
  pool.Add([this, completion, work = std::move(work)]() mutable {
    work();
    work = nullptr;
    Post([completion] { completion->waiter.resume(); });
  });
}

Task<IoResult<std::unique_ptr<File>>> HostLoop::Open(std::string path,
                                                     OpenOptions options) {
  HostFile::OpenResult result;
  co_await Run(Offload::kBlocking, [&path, &options, &result] {
    result = HostFile::OpenNow(path, options);
  });
  if (result.fd < 0) co_return IoError(result.error);
  co_return MakeFile(result, options);
}

}  // namespace bgfs
