#include "drivers/blkdebug_rules.h"

#include "absl/strings/str_cat.h"
#include "drivers/opener.h"
#include "drivers/quote.h"
#include "graph/async/errno_name.h"

namespace bgfs {
namespace {

constexpr int64_t kNsPerMs = 1000000;

// Of any of the three kinds of rules, which all have these fields.
template <typename Rule>
absl::StatusOr<BlkdebugRules::When> WhenOf(const Rule& rule) {
  BlkdebugRules::When when;
  if (rule.operation_size() > 0) when.operations = 0;
  for (const int operation : rule.operation()) {
    when.operations |=
        BlkdebugRules::Bit(static_cast<BlkdebugOperation>(operation));
  }
  if (rule.has_offset()) {
    const auto offset = ParseBytes("offset", rule.offset());
    if (!offset.ok()) return offset.status();
    when.range.offset = *offset;
  }
  if (rule.has_bytes()) {
    const auto bytes = ParseBytes("bytes", rule.bytes());
    if (!bytes.ok()) return bytes.status();
    when.range.bytes = *bytes;
  }
  when.skip = rule.skip();
  if (rule.has_times()) when.times = rule.times();
  if (rule.once()) when.times = 1;
  if (when.skip < 0 || when.times < 0) {
    return absl::InvalidArgumentError(
        "skip and times count requests; give 0 or more");
  }
  return when;
}

}  // namespace

absl::StatusOr<BlkdebugRules> BlkdebugRulesOf(const proto::Blkdebug& blkdebug) {
  BlkdebugRules rules;
  for (const auto& rule : blkdebug.inject_error()) {
    const auto when = WhenOf(rule);
    if (!when.ok()) return when.status();
    const int error = ErrnoOf(rule.error());
    if (error == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("error ", Quote(rule.error()),
                       " is no errno; give its name, as \"EIO\""));
    }
    rules.errors.push_back({*when, error, rule.immediately()});
  }
  for (const auto& rule : blkdebug.inject_delay()) {
    const auto when = WhenOf(rule);
    if (!when.ok()) return when.status();
    if (rule.delay_ms() < 0 ||
        rule.delay_ms() > BlkdebugRules::kForever / kNsPerMs / 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "delay_ms ", rule.delay_ms(), " is no time to wait; give less"));
    }
    rules.delays.push_back({*when, rule.delay_ms() * kNsPerMs});
  }
  for (const auto& rule : blkdebug.suspend()) {
    const auto when = WhenOf(rule);
    if (!when.ok()) return when.status();
    rules.suspends.push_back({*when, rule.tag()});
  }
  return rules;
}

}  // namespace bgfs
