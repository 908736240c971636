// The blkdebug driver: makes errors, delays and limits where a test wants them.
//
//   request ──▶ suspended? ──▶ delayed? ──▶ error? ──▶ child
//                until Resume(),  until it     answered
//                a drain          is over,     here
//                                 a drain
//
// Rules say which requests meet what (blkdebug_rules.h). Of each kind every
// rule that a request matches counts it, and the first that is due is carried
// out. What a rule is about is what the engine hands to a driver: a request
// that is split at max_transfer counts as the pieces, an unaligned write as a
// read and a write of whole blocks. A drain lets go what is suspended or
// delayed, and inside it these rules neither hold nor count; errors stay
// errors.
//
//   BlkdebugDriver& debug = ...;              // at the node's home
//   debug.SetRules({.suspends = {{.tag = "A"}}});
//   ... start a request ...
//   ASSERT_TRUE(debug.IsSuspended("A"));
//   debug.Resume("A");

#ifndef BGFS_DRIVERS_BLKDEBUG_H_
#define BGFS_DRIVERS_BLKDEBUG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "drivers/blkdebug_rules.h"
#include "drivers/filter.h"
#include "graph/async/alarm.h"

namespace bgfs {

class BlkdebugDriver final : public FilterDriver {
 public:
  // Limits of the node (graph/types.h), bytes; 0 leaves one as it is.
  struct Options {
    int64_t align = 0;           // request_alignment, a power of two
    int64_t max_transfer = 0;    // the others are multiples of it
    int64_t opt_write_zero = 0;  // pwrite_zeroes_alignment
    int64_t max_write_zero = 0;  // max_pwrite_zeroes
    int64_t opt_discard = 0;     // pdiscard_alignment
    int64_t max_discard = 0;     // max_pdiscard
  };

  BlkdebugDriver(const Options& options, BlkdebugRules rules)
      : options_(options) {
    SetRules(std::move(rules));
  }

  // Every rule begins to count anew; what the old ones hold is let go.
  void SetRules(BlkdebugRules rules);
  // Lets go all that is suspended under this tag; false if nothing is.
  bool Resume(absl::string_view tag);
  bool IsSuspended(absl::string_view tag) const;

  absl::string_view format_name() const override { return "blkdebug"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoStatus> FlushToOs() override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  void RefreshLimits(Limits* limits) override;
  void OnDrainBegin() override;
  void OnDrainEnd() override { --drains_; }

 private:
  // A rule, and how many requests it has met.
  template <typename Rule>
  struct Counted {
    Rule rule;
    int64_t met = 0;
  };
  template <typename Rule>
  using CountedRules = std::vector<Counted<Rule>>;

  // A request that is held back; in the frame of its task.
  struct Held {
    bool suspended;
    std::string tag;
    Alarm alarm = {};
    bool let_go = false;
  };

  static constexpr Range kEverything = {0, Range::kToInfinity};

  template <typename Rule>
  CountedRules<Rule> Count(std::vector<Rule> rules);
  // The rule that is due, or null.
  template <typename Rule>
  static const Rule* Meet(CountedRules<Rule>* rules,
                          BlkdebugOperation operation, const Range& range);
  // `then`, or what a rule makes of it.
  Task<IoStatus> Debug(BlkdebugOperation operation, Range range,
                       Task<IoStatus> then);
  Task<IoStatus> MeetRules(BlkdebugOperation operation, Range range,
                           Task<IoStatus> then);
  Task<IoStatus> MeetAll(BlkdebugOperation operation, Range range);
  Task<void> Hold(bool suspended, std::string tag, int64_t deadline_ns);
  static void LetGo(Held* held);
  void LetAllGo();

  bool IsWatched(BlkdebugOperation operation) const {
    return (watched_ & BlkdebugRules::Bit(operation)) != 0;
  }

  const Options options_;
  CountedRules<BlkdebugRules::Error> errors_;
  CountedRules<BlkdebugRules::Delay> delays_;
  CountedRules<BlkdebugRules::Suspend> suspends_;
  uint32_t watched_ = 0;  // operations that some rule is about
  std::vector<Held*> held_;
  int drains_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_BLKDEBUG_H_
