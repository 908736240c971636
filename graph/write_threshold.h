// WriteThreshold: tells once when a write ends behind an offset, so that
// whoever manages a thin volume can make it larger in time.

#ifndef BGFS_GRAPH_WRITE_THRESHOLD_H_
#define BGFS_GRAPH_WRITE_THRESHOLD_H_

#include <cstdint>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "graph/types.h"

namespace bgfs {

// Used at home.
class WriteThreshold {
 public:
  struct Event {
    int64_t threshold;  // bytes
    int64_t exceeded_by;
  };
  using OnExceeded = absl::AnyInvocable<void(Event)>;

  // Arms it, in place of an earlier one. `on_exceeded` is called before the
  // reply to the write, once; it must not wait, and may arm it anew.
  void Arm(int64_t threshold_bytes, OnExceeded on_exceeded) {
    threshold_ = threshold_bytes;
    on_exceeded_ = std::move(on_exceeded);
  }
  void Disarm() { Arm(kDisarmed, nullptr); }
  bool armed() const { return threshold_ != kDisarmed; }
  int64_t threshold() const { return threshold_; }  // of an armed one

  // A write ended there, or may have.
  void Wrote(int64_t end) {
    if (end <= threshold_) return;
    const Event event{threshold_, end - threshold_};
    threshold_ = kDisarmed;
    OnExceeded tell = std::exchange(on_exceeded_, nullptr);
    tell(event);
  }

 private:
  static constexpr int64_t kDisarmed = Range::kToInfinity;

  int64_t threshold_ = kDisarmed;
  OnExceeded on_exceeded_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_WRITE_THRESHOLD_H_
