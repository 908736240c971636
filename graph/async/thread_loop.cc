#include "graph/async/thread_loop.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <utility>

#include "graph/async/thread_file.h"

namespace bgfs {

IoResult<std::unique_ptr<ThreadLoop>> ThreadLoop::Start(
    const std::string& name, std::string why_not_uring) {
  std::unique_ptr<ThreadLoop> loop(new ThreadLoop(std::move(why_not_uring)));
  if (const IoStatus status = loop->Begin(name); !status.ok()) return status;
  return loop;
}

ThreadLoop::~ThreadLoop() { End(); }

IoStatus ThreadLoop::SetUp() {
  polled_.push_back({event_fd(), POLLIN, 0});
  waiters_.emplace_back();
  return IoStatus();
}

void ThreadLoop::SubmitAndWait(bool may_sleep) {
  // Whoever is awake needs no waking.
  if (!may_sleep && polled_.size() == 1) return;
  timespec timeout{};
  const timespec* limit = &timeout;
  if (may_sleep) {
    const int64_t deadline = NextDeadlineNs();
    if (deadline == std::numeric_limits<int64_t>::max()) {
      limit = nullptr;
    } else {
      const int64_t left = std::max<int64_t>(0, deadline - NowNs());
      timeout = {left / 1000000000, left % 1000000000};
    }
  }
  const int result = ppoll(polled_.data(), polled_.size(), limit, nullptr);
  BGFS_CHECK(result >= 0 || errno == EINTR || errno == ENOMEM);
  if (result < 0) {
    for (pollfd& polled : polled_) polled.revents = 0;
  }
}

void ThreadLoop::Reap() {
  if (polled_[0].revents != 0) {
    uint64_t value = 0;
    const ssize_t bytes = read(event_fd(), &value, sizeof value);
    BGFS_CHECK(bytes == sizeof value);
    polled_[0].revents = 0;
  }
  // From the end: one that is removed is replaced by one that was looked at.
  for (size_t i = polled_.size() - 1; i > 0; --i) {
    const int events = polled_[i].revents;
    if (events == 0) continue;
    for (Completion* completion : waiters_[i]) {
      completion->result = (events & POLLNVAL) != 0 ? -EBADF : events;
      Schedule(completion->waiter);
    }
    RemovePoll(i);
  }
}

void ThreadLoop::RemovePoll(size_t index) {
  std::swap(polled_[index], polled_.back());
  std::swap(waiters_[index], waiters_.back());
  polled_.pop_back();
  waiters_.pop_back();
}

void ThreadLoop::StartPoll(int fd, Completion* completion) {
  if (fd < 0) {  // ppoll would pass over it
    completion->result = -EBADF;
    Schedule(completion->waiter);
    return;
  }
  for (size_t i = 1; i < polled_.size(); ++i) {
    if (polled_[i].fd != fd) continue;
    waiters_[i].push_back(completion);
    return;
  }
  polled_.push_back({fd, POLLIN, 0});
  waiters_.push_back(Waiters{completion});
}

void ThreadLoop::CancelPoll(Completion* completion) {
  for (size_t i = 1; i < polled_.size(); ++i) {
    auto it = std::find(waiters_[i].begin(), waiters_[i].end(), completion);
    if (it == waiters_[i].end()) continue;
    waiters_[i].erase(it);
    if (waiters_[i].empty()) RemovePoll(i);
    completion->result = -ECANCELED;
    Schedule(completion->waiter);
    return;
  }
}

std::unique_ptr<File> ThreadLoop::MakeFile(HostFile::OpenResult opened,
                                           OpenOptions options) {
  return std::make_unique<ThreadFile>(this, opened, options);
}

}  // namespace bgfs
