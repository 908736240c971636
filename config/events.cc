#include "config/events.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "graph/node.h"

namespace bgfs::config {
namespace {

int64_t NowNs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::nanoseconds(now).count();
}

}  // namespace

std::optional<control::Event> EventHub::Follower::WaitUntil(Deadline deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_until(lock, deadline,
                      [this] { return ended_ || !events_.empty(); });
  if (events_.empty()) return std::nullopt;
  control::Event event = std::move(events_.front());
  events_.pop_front();
  event.set_lost(std::exchange(lost_, 0));
  return event;
}

bool EventHub::Follower::ended() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ended_ && events_.empty();
}

void EventHub::Follower::Put(const control::Event& event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (events_.size() == kMostWaiting) {
    events_.pop_front();
    ++lost_;
  }
  events_.push_back(event);
  changed_.notify_all();
}

void EventHub::Follower::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

std::shared_ptr<EventHub::Follower> EventHub::Follow() {
  auto follower = std::make_shared<Follower>();
  control::Event first;
  first.set_time_ns(NowNs());
  first.mutable_following()->set_pid(getpid());
  follower->Put(first);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) {
    follower->End();
  } else {
    followers_.push_back(follower);
  }
  return follower;
}

void EventHub::Publish(control::Event event) {
  event.set_time_ns(NowNs());
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(followers_,
                [](const auto& follower) { return follower.expired(); });
  for (const auto& kept : followers_) {
    if (const auto follower = kept.lock()) follower->Put(event);
  }
}

void EventHub::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  for (const auto& kept : followers_) {
    if (const auto follower = kept.lock()) follower->End();
  }
  followers_.clear();
}

void EventHub::OnWriteThreshold(const Node& node, WriteThreshold::Event event) {
  control::Event message;
  auto* exceeded = message.mutable_write_threshold();
  exceeded->set_node(node.name());
  exceeded->set_threshold(static_cast<uint64_t>(event.threshold));
  exceeded->set_exceeded_by(static_cast<uint64_t>(event.exceeded_by));
  Publish(std::move(message));
}

void EventHub::OnFlushFailed(const Node& node, IoStatus status) {
  control::Event message;
  message.mutable_flush_failed()->set_node(node.name());
  message.mutable_flush_failed()->set_error(status.error());
  Publish(std::move(message));
}

}  // namespace bgfs::config
