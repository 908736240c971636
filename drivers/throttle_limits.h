// ThrottleLimits: how much may pass through a throttle, as a value. The names
// are those of proto::ThrottleLimits, which says what they mean.

#ifndef BGFS_DRIVERS_THROTTLE_LIMITS_H_
#define BGFS_DRIVERS_THROTTLE_LIMITS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

struct ThrottleLimits {
  // Of one kind: operations or bytes, of reads, writes or both.
  struct Rate {
    int64_t average = 0;     // a second; 0: no limit, whatever the others say
    int64_t max = 0;         // a second, in a burst; 0: none is configured
    int64_t max_length = 1;  // seconds that a burst may last, at least 1

    friend bool operator==(const Rate&, const Rate&) = default;
  };

  Rate iops_total = {};
  Rate iops_read = {};
  Rate iops_write = {};
  Rate bps_total = {};
  Rate bps_read = {};
  Rate bps_write = {};
  // A larger request counts as several operations; 0: as one.
  int64_t iops_size = 0;

  friend bool operator==(const ThrottleLimits&,
                         const ThrottleLimits&) = default;
};

// Sizes in `limits` are plain numbers of bytes. Fails where one is none, or
// something is negative; limits that contradict each other are the business of
// whoever validates a configuration, and do no harm.
absl::StatusOr<ThrottleLimits> ThrottleLimitsOf(
    const proto::ThrottleLimits& limits);

}  // namespace bgfs

#endif  // BGFS_DRIVERS_THROTTLE_LIMITS_H_
