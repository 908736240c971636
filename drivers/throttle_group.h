// ThrottleGroup: limits that one node keeps, or several together, on whatever
// loops they are. ThrottleMember is one node in a group.
//
// Leaky buckets, one for each limit. A request that passes pours into its
// buckets (one operation, its bytes); they leak at the average rate. While one
// of them holds more than a burst, the next request has to wait until it does
// not. So a request of any size passes once there is room, and what it was too
// large is a debt that later ones wait for.
//
// Who has to wait does so in two queues:
//
//   node a, reads    r3 r2 [r1] ──┐
//   node a, writes      w2 [w1] ──┤
//   node b, reads          [r1] ──┴─▶ turns: a r1, b r1, a w1
//
// Of each node and direction the first in [] has a turn. A turn pours at once,
// and so knows at once when it may go: nobody has to tell it, and loops need
// not talk to each other. When it has gone the next of its queue takes a turn
// behind those that are there, so that the nodes of a group take turns however
// much each has to do. The price: in no time does more pass than the limits
// allow and one request of each node and direction.
//
// The lock is held for a few sums, never while anything waits; a group without
// limits takes none.

#ifndef BGFS_DRIVERS_THROTTLE_GROUP_H_
#define BGFS_DRIVERS_THROTTLE_GROUP_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "drivers/throttle_limits.h"
#include "graph/async/alarm.h"
#include "graph/async/loop.h"
#include "graph/async/sync.h"
#include "graph/async/task.h"

namespace bgfs {

enum class ThrottleDirection : uint8_t { kRead, kWrite };

// The bucket of one limit. Times are seconds.
class LeakyBucket {
 public:
  // Empties it.
  void SetRate(const ThrottleLimits::Rate& rate);
  bool limited() const { return rate_ > 0; }
  void Leak(double time);
  // How long until a request may pass; 0 if it may.
  double Wait() const;
  void Pour(double units);

 private:
  double rate_ = 0;   // units a second
  double burst_ = 0;  // it may hold so much

  // Of a burst that lasts for longer than a second: its own rate is kept by a
  // second, small bucket.
  double burst_rate_ = 0;
  double level_ = 0;
  double burst_level_ = 0;
};

class ThrottleMember;

class ThrottleGroup {
 public:
  explicit ThrottleGroup(const ThrottleLimits& limits);
  ThrottleGroup(const ThrottleGroup&) = delete;
  ThrottleGroup& operator=(const ThrottleGroup&) = delete;

  // From any thread. What waits is judged by the new limits at once, as though
  // nothing had passed before; the limits it has already change nothing.
  void SetLimits(const ThrottleLimits& limits);
  ThrottleLimits limits() const;

 private:
  friend class ThrottleMember;

  // How a loop is told to look again; outlives both ends.
  struct Bell {
    ThrottleMember* member;  // used at its home; null once it has gone
  };
  // What passes.
  struct Load {
    ThrottleDirection direction;
    int64_t bytes;
  };
  // Lives in the frame of the task that waits.
  struct Turn {
    Load load;
    Loop* home;
    std::shared_ptr<Bell> bell;
    int64_t deadline_ns = 0;  // guarded by mutex_
  };

  // All of these from the loop that `now_ns` is of.

  bool limited() const { return limited_.load(std::memory_order_relaxed); }
  // Pours if it need not wait.
  bool TryPass(const Load& load, int64_t now_ns);
  void TakeTurn(Turn* turn, int64_t now_ns);
  // When the turn may go.
  int64_t Look(const Turn& turn, int64_t now_ns);
  // It goes, be it time or not; what it has poured stays.
  void LeaveTurn(Turn* turn);

  // These with mutex_ held.
  void Leak(int64_t now_ns);
  int64_t Deadline(const Load& load, int64_t now_ns) const;
  void Pour(const Load& load);
  void Settle(int64_t now_ns);

  static constexpr size_t kDirections = 2;
  static constexpr size_t kTotal = kDirections;

  std::atomic<bool> limited_{false};
  mutable std::mutex mutex_;
  // All below is guarded by it.
  ThrottleLimits limits_;
  // Of reads, of writes, of both.
  std::array<LeakyBucket, kDirections + 1> iops_;
  std::array<LeakyBucket, kDirections + 1> bps_;
  int64_t leaked_ns_ = 0;
  // In the order in which they were taken.
  std::vector<Turn*> turns_;
  // New limits were set, and turns_ are still by the old ones: whoever comes
  // next and knows the time sees to it.
  bool unsettled_ = false;
};

// At the home of its node.
class ThrottleMember {
 public:
  explicit ThrottleMember(std::shared_ptr<ThrottleGroup> group);
  ThrottleMember(const ThrottleMember&) = delete;
  ThrottleMember& operator=(const ThrottleMember&) = delete;
  // Nothing waits.
  ~ThrottleMember();

  ThrottleGroup& group() const { return *group_; }

  // Whether the request may pass now; then it counts. Otherwise it waits:
  bool TryPass(ThrottleDirection direction, int64_t bytes);
  // until it may, after those of its direction that came before.
  Task<void> Wait(ThrottleDirection direction, int64_t bytes);

  // Nested. While there is a drain nothing waits, and all counts.
  void OnDrainBegin();
  void OnDrainEnd();

 private:
  friend class ThrottleGroup;

  struct Lane {
    bool taken = false;  // by the one that has the turn
    Alarm alarm;         // its
    WaitQueue queue;     // of the others
  };

  Lane& LaneOf(ThrottleDirection direction) {
    return lanes_[static_cast<size_t>(direction)];
  }
  void Ring();

  const std::shared_ptr<ThrottleGroup> group_;
  const std::shared_ptr<ThrottleGroup::Bell> bell_;
  std::array<Lane, ThrottleGroup::kDirections> lanes_;
  int drains_ = 0;
};

// The groups that nodes name. From any thread.
class ThrottleGroups {
 public:
  // Null if there is none of that name.
  std::shared_ptr<ThrottleGroup> Find(absl::string_view name) const;
  // Gives a group its limits, and makes it if there is none.
  void Set(absl::string_view name, const ThrottleLimits& limits);
  // Nodes that are in it keep it.
  void Remove(absl::string_view name);

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::map<std::string, std::shared_ptr<ThrottleGroup>, std::less<>> groups_;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_THROTTLE_GROUP_H_
