// EventHub: what happens in a daemon (proto/control.proto, Event), told to
// whoever follows it.
//
//   homes ──Publish()──▶ hub ──▶ a queue for each follower ──▶ its thread
//
// Nobody waits for a follower: of one that is slow the oldest events are lost,
// and the next that it gets says how many.

#ifndef BGFS_CONFIG_EVENTS_H_
#define BGFS_CONFIG_EVENTS_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "config/pending.h"
#include "graph/observer.h"
#include "proto/control.pb.h"

namespace bgfs::config {

// From any thread.
class EventHub final : public GraphObserver {
 public:
  // That wait for one follower.
  static constexpr size_t kMostWaiting = 1024;

  class Follower {
   public:
    // Blocks. Null: none came by then, or none will come any more (ended()).
    std::optional<control::Event> WaitUntil(Deadline deadline);
    // The hub has ended, and everything was taken.
    bool ended();

   private:
    friend class EventHub;
    void Put(const control::Event& event);
    void End();

    std::mutex mutex_;
    std::condition_variable changed_;
    // All below is used with mutex_ held.
    std::deque<control::Event> events_;
    uint64_t lost_ = 0;  // before the first of them
    bool ended_ = false;
  };

  EventHub() = default;
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;

  // Gets what is published from now on, for as long as it is kept, and before
  // that an event that says that this is so. It may outlive the hub.
  std::shared_ptr<Follower> Follow();
  // Sets the time of the event. Takes moments.
  void Publish(control::Event event);
  // Nothing is published any more.
  void End();

  void OnWriteThreshold(const Node& node, WriteThreshold::Event event) override;
  void OnFlushFailed(const Node& node, IoStatus status) override;

 private:
  std::mutex mutex_;  // before a follower's
  // All below is used with mutex_ held.
  std::vector<std::weak_ptr<Follower>> followers_;
  bool ended_ = false;
};

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_EVENTS_H_
