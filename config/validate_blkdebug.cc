#include "config/validate_blkdebug.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/size.h"
#include "graph/async/errno_name.h"

namespace bgfs::config {
namespace {

using proto::Blkdebug;
using proto::BlkdebugOperation;

// Every block is bounced in memory.
constexpr int64_t kMaxAlign = int64_t{1} << 20;
constexpr int64_t kMaxDelayMs = 3600000;

// One blkdebug node.
class Checker {
 public:
  Checker(const FlatGraph& graph, int node, bool complete,
          std::vector<Diagnostic>* mistakes)
      : blkdebug_(graph.nodes[node].node.blkdebug()),
        place_(graph.nodes[node].driver),
        who_(graph.Describe(node)),
        complete_(complete),
        mistakes_(mistakes) {}

  void Check() {
    CheckLimits();
    for (int i = 0; i < blkdebug_.inject_error_size(); ++i) {
      CheckError(blkdebug_.inject_error(i),
                 place_.In(Blkdebug::kInjectErrorFieldNumber, i));
    }
    for (int i = 0; i < blkdebug_.inject_delay_size(); ++i) {
      CheckDelay(blkdebug_.inject_delay(i),
                 place_.In(Blkdebug::kInjectDelayFieldNumber, i));
    }
    for (int i = 0; i < blkdebug_.suspend_size(); ++i) {
      CheckSuspend(blkdebug_.suspend(i),
                   place_.In(Blkdebug::kSuspendFieldNumber, i));
    }
  }

 private:
  template <typename... Parts>
  void Report(Position at, const Parts&... parts) {
    mistakes_->push_back({at, absl::StrCat(who_, ": ", parts...)});
  }

  void CheckLimits() {
    int64_t align = 1;
    if (blkdebug_.has_align()) {
      const Position at = place_.Field(Blkdebug::kAlignFieldNumber);
      align = Size(at, "align", blkdebug_.align()).value_or(1);
      if (align < 1 || align > kMaxAlign || (align & (align - 1)) != 0) {
        Report(at, "align ", align, " is not a power of two up to ", kMaxAlign);
        align = 1;
      }
    }
    CheckMultiple("max_transfer", blkdebug_.max_transfer(), align);
    CheckMultiple("opt_write_zero", blkdebug_.opt_write_zero(), align);
    CheckMultiple("max_write_zero", blkdebug_.max_write_zero(), align);
    CheckMultiple("opt_discard", blkdebug_.opt_discard(), align);
    CheckMultiple("max_discard", blkdebug_.max_discard(), align);
  }

  void CheckMultiple(const std::string& name, const std::string& text,
                     int64_t align) {
    const auto* field = Blkdebug::descriptor()->FindFieldByName(name);
    if (!Blkdebug::GetReflection()->HasField(blkdebug_, field)) return;
    const Position at = place_.Field(field->number());
    const std::optional<int64_t> size = Size(at, name, text);
    if (size && *size == 0) {
      Report(at, name, " 0 is no limit; give more, or drop it");
    } else if (size && *size % align != 0) {
      Report(at, name, " ", *size, " is not a multiple of align");
    }
  }

  // None where it cannot be read.
  std::optional<int64_t> Size(Position at, absl::string_view name,
                              const std::string& text) {
    const auto size = ParseSize(text);
    if (size.ok()) return *size;
    Report(at, name, " ", size.status().message());
    return std::nullopt;
  }

  void CheckError(const Blkdebug::InjectError& rule, const Place& place) {
    CheckWhen(rule, place);
    if (!rule.has_error()) {
      if (complete_) {
        Report(place.start(), "inject_error needs an error, as \"EIO\"");
      }
    } else if (ErrnoOf(rule.error()) == 0) {
      Report(place.Field(Blkdebug::InjectError::kErrorFieldNumber), "error ",
             Quote(rule.error()),
             " is no errno; give its name, as \"EIO\", or its number");
    }
  }

  void CheckDelay(const Blkdebug::InjectDelay& rule, const Place& place) {
    CheckWhen(rule, place);
    if (!rule.has_delay_ms()) {
      if (complete_) Report(place.start(), "inject_delay needs delay_ms");
    } else if (rule.delay_ms() < 0 || rule.delay_ms() > kMaxDelayMs) {
      Report(place.Field(Blkdebug::InjectDelay::kDelayMsFieldNumber),
             "delay_ms ", rule.delay_ms(), " is not between 0 and ",
             kMaxDelayMs);
    }
  }

  void CheckSuspend(const Blkdebug::Suspend& rule, const Place& place) {
    CheckWhen(rule, place);
    if (!rule.has_tag()) {
      if (complete_) Report(place.start(), "suspend needs a tag");
    }
  }

  // What all kinds of rules have.
  template <typename Rule>
  void CheckWhen(const Rule& rule, const Place& place) {
    CheckCounts(rule, place);
    std::optional<int64_t> offset = 0;
    if (rule.has_offset()) {
      offset =
          Size(place.Field(Rule::kOffsetFieldNumber), "offset", rule.offset());
    }
    if (rule.has_bytes()) {
      const Position at = place.Field(Rule::kBytesFieldNumber);
      const std::optional<int64_t> bytes = Size(at, "bytes", rule.bytes());
      if (bytes && *bytes == 0) {
        Report(at, "bytes 0 is no range; give more, or drop it");
      } else if (bytes && offset &&
                 *offset > std::numeric_limits<int64_t>::max() - *bytes) {
        Report(at, "offset and bytes together exceed \"8E\"");
      }
    }
    if (!rule.has_offset() && !rule.has_bytes()) return;
    const auto& operations = rule.operation();
    const bool none =
        std::all_of(operations.begin(), operations.end(), [](int operation) {
          return operation == BlkdebugOperation::FLUSH ||
                 operation == BlkdebugOperation::TRUNCATE;
        });
    if (none && !operations.empty()) {
      Report(place.Field(Rule::kOperationFieldNumber, 0),
             "FLUSH and TRUNCATE are of no range; drop offset and bytes");
    }
  }

  template <typename Rule>
  void CheckCounts(const Rule& rule, const Place& place) {
    if (rule.skip() < 0) {
      Report(place.Field(Rule::kSkipFieldNumber), "skip ", rule.skip(),
             " is negative; give 0 or more");
    }
    if (!rule.has_times()) return;
    const Position at = place.Field(Rule::kTimesFieldNumber);
    if (rule.once()) {
      Report(at, "times beside once; drop one of them");
    } else if (rule.times() < 1) {
      Report(at, "times ", rule.times(), " is never; give 1 or more");
    }
  }

  const Blkdebug& blkdebug_;
  const Place place_;
  const std::string who_;
  const bool complete_;
  std::vector<Diagnostic>* const mistakes_;
};

}  // namespace

void CheckBlkdebugs(const FlatGraph& graph, bool complete,
                    std::vector<Diagnostic>* mistakes) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!graph.nodes[i].node.has_blkdebug()) continue;
    Checker(graph, static_cast<int>(i), complete, mistakes).Check();
  }
}

}  // namespace bgfs::config
