// The throttle driver: so many operations and bytes a second and no more, of
// its own or of a group of nodes together (throttle_group.h).
//
// Reads count as reads; writes, zero requests and discards as writes, by the
// bytes of the guest that they cover. A request that the engine splits counts
// as the pieces. Flushes, truncates, reservations and block status do not
// count. A request waits on a timer of its loop while it runs as far as the
// engine is concerned: it keeps what it claimed.

#ifndef BGFS_DRIVERS_THROTTLE_H_
#define BGFS_DRIVERS_THROTTLE_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "drivers/filter.h"
#include "drivers/throttle_group.h"

namespace bgfs {

class ThrottleDriver final : public FilterDriver {
 public:
  explicit ThrottleDriver(std::shared_ptr<ThrottleGroup> group)
      : member_(std::move(group)) {}

  // Where limits are changed, from any thread.
  ThrottleGroup& group() const { return member_.group(); }

  absl::string_view format_name() const override { return "throttle"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  void OnDrainBegin() override { member_.OnDrainBegin(); }
  void OnDrainEnd() override { member_.OnDrainEnd(); }

 private:
  // `then`, once it may pass.
  Task<IoStatus> Throttle(ThrottleDirection direction, int64_t bytes,
                          Task<IoStatus> then);
  Task<IoStatus> WaitFor(ThrottleDirection direction, int64_t bytes,
                         Task<IoStatus> then);

  ThrottleMember member_;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_THROTTLE_H_
