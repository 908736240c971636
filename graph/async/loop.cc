#include "graph/async/loop.h"

#include <cerrno>
#include <limits>

namespace bgfs {
namespace {

thread_local Loop* current_loop = nullptr;

}  // namespace

Loop* Loop::Current() { return current_loop; }
void Loop::SetCurrent(Loop* loop) { current_loop = loop; }

void Loop::Post(Work work) {
  const std::lock_guard lock(mutex_);
  posts_.push_back(std::move(work));
  posted_any_.store(true);
  // Woken under the mutex: once the work may run, the loop may end.
  Wake();
}

void Loop::RunPosts() {
  std::vector<Work> posts;
  {
    const std::lock_guard lock(mutex_);
    posts.swap(posts_);
    posted_any_.store(false, std::memory_order_relaxed);
  }
  for (Work& work : posts) work();
}

void Loop::StartTimer(int64_t deadline_ns, Completion* completion) {
  timers_.insert({deadline_ns, next_timer_++, completion});
}

void Loop::CancelTimer(Completion* completion) {
  for (auto it = timers_.begin(); it != timers_.end(); ++it) {
    if (it->completion != completion) continue;
    timers_.erase(it);
    completion->result = -ECANCELED;
    Schedule(completion->waiter);
    return;
  }
}

int64_t Loop::NextDeadlineNs() const {
  return timers_.empty() ? std::numeric_limits<int64_t>::max()
                         : timers_.begin()->deadline_ns;
}

bool Loop::RunTurn() {
  ++turn_;
  bool worked = false;
  if (has_posts()) {
    RunPosts();
    worked = true;
  }
  if (!timers_.empty()) {
    const int64_t now = NowNs();
    while (!timers_.empty() && timers_.begin()->deadline_ns <= now) {
      Completion* completion = timers_.begin()->completion;
      timers_.erase(timers_.begin());
      completion->result = 0;
      Schedule(completion->waiter);
    }
  }
  for (size_t count = ready_.size(); count > 0; --count) {
    std::coroutine_handle<> handle = ready_.front();
    ready_.pop_front();
    handle.resume();
    worked = true;
  }
  return worked;
}

}  // namespace bgfs
