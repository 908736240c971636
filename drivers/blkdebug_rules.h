// BlkdebugRules: what a blkdebug node does to which requests, as a value. The
// words are those of proto::Blkdebug, which says what they mean.

#ifndef BGFS_DRIVERS_BLKDEBUG_RULES_H_
#define BGFS_DRIVERS_BLKDEBUG_RULES_H_

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/types.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

// In the order of proto::BlkdebugOperation.
enum class BlkdebugOperation : uint8_t {
  kRead,
  kWrite,
  kZero,
  kDiscard,
  kFlush,
  kTruncate,
  kReserve,
  kBlockStatus,
};

struct BlkdebugRules {
  static constexpr int64_t kForever = std::numeric_limits<int64_t>::max();
  static constexpr uint32_t kAnyOperation = ~uint32_t{0};

  static constexpr uint32_t Bit(BlkdebugOperation operation) {
    return uint32_t{1} << static_cast<int>(operation);
  }

  // Which requests: those that touch the range, without the first `skip` of
  // them, and then `times`. Flushes and truncates touch all there is: they meet
  // only rules for all of it.
  struct When {
    uint32_t operations = kAnyOperation;  // Bit()s
    Range range = {0, Range::kToInfinity};
    int64_t skip = 0;
    int64_t times = kForever;
  };
  struct Error {
    When when = {};
    int error = EIO;
    bool immediately = false;  // else after a turn of the loop
  };
  struct Delay {
    When when = {};
    int64_t delay_ns = 0;
  };
  struct Suspend {
    When when = {};
    std::string tag = {};
  };

  std::vector<Error> errors = {};
  std::vector<Delay> delays = {};
  std::vector<Suspend> suspends = {};
};

// Sizes in `blkdebug` are plain numbers of bytes. Fails where one is none, and
// where a rule cannot be carried out.
absl::StatusOr<BlkdebugRules> BlkdebugRulesOf(const proto::Blkdebug& blkdebug);

}  // namespace bgfs

#endif  // BGFS_DRIVERS_BLKDEBUG_RULES_H_
