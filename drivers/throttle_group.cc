#include "drivers/throttle_group.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "graph/async/check.h"

namespace bgfs {
namespace {

constexpr double kNsPerSecond = 1e9;
// Without a configured burst a bucket holds what passes in this time, lest a
// client waits for every single load.
constexpr double kDefaultBurstSeconds = 0.1;
// For the rate of a burst itself.
constexpr double kBurstSeconds = 0.1;
// About thirty years: what waits for longer does not end, and sums of times
// must fit.
constexpr double kMaxWaitSeconds = 1e9;

}  // namespace

// --- LeakyBucket -------------------------------------------------------------

void LeakyBucket::SetRate(const ThrottleLimits::Rate& rate) {
  rate_ = static_cast<double>(rate.average);
  burst_ = rate_ * kDefaultBurstSeconds;
  burst_rate_ = 0;
  if (rate.max > 0) {
    burst_ =
        static_cast<double>(rate.max) * static_cast<double>(rate.max_length);
    // In one second all of it may pass at once.
    if (rate.max_length > 1) burst_rate_ = static_cast<double>(rate.max);
  }
  level_ = 0;
  burst_level_ = 0;
}

void LeakyBucket::Leak(double time) {
  level_ = std::max(0.0, level_ - rate_ * time);
  burst_level_ = std::max(0.0, burst_level_ - burst_rate_ * time);
}

double LeakyBucket::Wait() const {
  if (!limited()) return 0;
  double wait = std::max(0.0, (level_ - burst_) / rate_);
  if (burst_rate_ > 0) {
    wait = std::max(wait, burst_level_ / burst_rate_ - kBurstSeconds);
  }
  return wait;
}

void LeakyBucket::Pour(double units) {
  if (!limited()) return;
  level_ += units;
  if (burst_rate_ > 0) burst_level_ += units;
}

// --- ThrottleGroup -----------------------------------------------------------

ThrottleGroup::ThrottleGroup(const ThrottleLimits& limits) {
  SetLimits(limits);
}

void ThrottleGroup::SetLimits(const ThrottleLimits& limits) {
  const std::lock_guard lock(mutex_);
  if (limits == limits_) return;
  limits_ = limits;
  iops_[0].SetRate(limits.iops_read);
  iops_[1].SetRate(limits.iops_write);
  iops_[kTotal].SetRate(limits.iops_total);
  bps_[0].SetRate(limits.bps_read);
  bps_[1].SetRate(limits.bps_write);
  bps_[kTotal].SetRate(limits.bps_total);
  bool limited = false;
  for (const auto* buckets : {&iops_, &bps_}) {
    for (const LeakyBucket& bucket : *buckets) limited |= bucket.limited();
  }
  limited_.store(limited, std::memory_order_relaxed);
  unsettled_ = true;
  // A turn's loop is there as long as the turn is in the list.
  for (const Turn* turn : turns_) {
    turn->home->Post([bell = turn->bell] {
      if (bell->member != nullptr) bell->member->Ring();
    });
  }
}

ThrottleLimits ThrottleGroup::limits() const {
  const std::lock_guard lock(mutex_);
  return limits_;
}

bool ThrottleGroup::TryPass(const Load& load, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  Settle(now_ns);
  if (Deadline(load, now_ns) > now_ns) return false;
  Pour(load);
  return true;
}

void ThrottleGroup::TakeTurn(Turn* turn, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  Settle(now_ns);
  turn->deadline_ns = Deadline(turn->load, now_ns);
  Pour(turn->load);
  turns_.push_back(turn);
}

int64_t ThrottleGroup::Look(const Turn& turn, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  Settle(now_ns);
  return turn.deadline_ns;
}

void ThrottleGroup::LeaveTurn(Turn* turn) {
  const std::lock_guard lock(mutex_);
  std::erase(turns_, turn);
}

// Clocks of different threads may be read in another order than they come here.
void ThrottleGroup::Leak(int64_t now_ns) {
  if (now_ns <= leaked_ns_) return;
  const double time = static_cast<double>(now_ns - leaked_ns_) / kNsPerSecond;
  leaked_ns_ = now_ns;
  for (auto* buckets : {&iops_, &bps_}) {
    for (LeakyBucket& bucket : *buckets) bucket.Leak(time);
  }
}

int64_t ThrottleGroup::Deadline(const Load& load, int64_t now_ns) const {
  const auto own = static_cast<size_t>(load.direction);
  const double wait = std::max({iops_[own].Wait(), iops_[kTotal].Wait(),
                                bps_[own].Wait(), bps_[kTotal].Wait()});
  return now_ns + static_cast<int64_t>(std::ceil(
                      std::min(wait, kMaxWaitSeconds) * kNsPerSecond));
}

void ThrottleGroup::Pour(const Load& load) {
  const auto bytes = static_cast<double>(load.bytes);
  const double operations =
      limits_.iops_size > 0
          ? std::max(1.0, bytes / static_cast<double>(limits_.iops_size))
          : 1.0;
  for (const size_t index : {static_cast<size_t>(load.direction), kTotal}) {
    iops_[index].Pour(operations);
    bps_[index].Pour(bytes);
  }
}

void ThrottleGroup::Settle(int64_t now_ns) {
  Leak(now_ns);
  if (!std::exchange(unsettled_, false)) return;
  for (Turn* turn : turns_) {
    turn->deadline_ns = Deadline(turn->load, now_ns);
    Pour(turn->load);
  }
}

// --- ThrottleMember ----------------------------------------------------------

ThrottleMember::ThrottleMember(std::shared_ptr<ThrottleGroup> group)
    : group_(std::move(group)),
      bell_(std::make_shared<ThrottleGroup::Bell>(this)) {}

ThrottleMember::~ThrottleMember() { bell_->member = nullptr; }

bool ThrottleMember::TryPass(ThrottleDirection direction, int64_t bytes) {
  if (LaneOf(direction).taken) return false;
  return !group_->limited() ||
         group_->TryPass({direction, bytes}, Loop::Current()->NowNs());
}

Task<void> ThrottleMember::Wait(ThrottleDirection direction, int64_t bytes) {
  Loop* const loop = Loop::Current();
  Lane& lane = LaneOf(direction);
  if (lane.taken) {
    co_await lane.queue.Wait();  // handed over, or let go
  } else {
    lane.taken = true;
  }
  ThrottleGroup::Turn turn{{direction, bytes}, loop, bell_};
  group_->TakeTurn(&turn, loop->NowNs());
  while (drains_ == 0) {
    const int64_t now_ns = loop->NowNs();
    const int64_t deadline_ns = group_->Look(turn, now_ns);
    if (deadline_ns <= now_ns) break;
    co_await lane.alarm.SleepUntil(deadline_ns);
  }
  group_->LeaveTurn(&turn);
  if (!lane.queue.WakeOne()) lane.taken = false;
}

void ThrottleMember::OnDrainBegin() {
  ++drains_;
  for (Lane& lane : lanes_) {
    lane.alarm.Ring();
    lane.queue.WakeAll();
  }
}

void ThrottleMember::OnDrainEnd() {
  BGFS_CHECK(drains_ > 0);
  --drains_;
}

void ThrottleMember::Ring() {
  for (Lane& lane : lanes_) lane.alarm.Ring();
}

// --- ThrottleGroups ----------------------------------------------------------

std::shared_ptr<ThrottleGroup> ThrottleGroups::Find(
    absl::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto found = groups_.find(name);
  return found == groups_.end() ? nullptr : found->second;
}

void ThrottleGroups::Set(absl::string_view name, const ThrottleLimits& limits) {
  const std::lock_guard lock(mutex_);
  const auto found = groups_.find(name);
  if (found != groups_.end()) {
    found->second->SetLimits(limits);
  } else {
    groups_.emplace(std::string(name), std::make_shared<ThrottleGroup>(limits));
  }
}

void ThrottleGroups::Remove(absl::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto found = groups_.find(name);
  if (found != groups_.end()) groups_.erase(found);
}

}  // namespace bgfs
