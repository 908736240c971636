// Opening filters: what stands on one node and changes no byte of it.

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "drivers/blkdebug.h"
#include "drivers/copy_on_read.h"
#include "drivers/opener.h"
#include "drivers/quote.h"
#include "drivers/throttle.h"

namespace bgfs {
namespace {

absl::StatusOr<std::shared_ptr<ThrottleGroup>> ThrottleGroupOf(
    const proto::Throttle& throttle, const OpenContext& context) {
  if (!throttle.has_group()) {
    const auto limits = ThrottleLimitsOf(throttle.limits());
    if (!limits.ok()) return limits.status();
    return std::make_shared<ThrottleGroup>(*limits);
  }
  std::shared_ptr<ThrottleGroup> group;
  if (context.throttle_groups != nullptr) {
    group = context.throttle_groups->Find(throttle.group());
  }
  if (group != nullptr) return group;
  return absl::NotFoundError(absl::StrCat("there is no throttle group ",
                                          Quote(throttle.group()),
                                          "; define it in throttle_groups"));
}

absl::StatusOr<BlkdebugDriver::Options> BlkdebugOptionsOf(
    const proto::Blkdebug& blkdebug) {
  BlkdebugDriver::Options options;
  const auto read = [](absl::string_view field, const std::string& text,
                       int64_t* limit) -> absl::Status {
    if (text.empty()) return absl::OkStatus();
    const auto bytes = ParseBytes(field, text);
    if (bytes.ok()) *limit = *bytes;
    return bytes.status();
  };
  absl::Status status;
  status.Update(read("align", blkdebug.align(), &options.align));
  status.Update(
      read("max_transfer", blkdebug.max_transfer(), &options.max_transfer));
  status.Update(read("opt_write_zero", blkdebug.opt_write_zero(),
                     &options.opt_write_zero));
  status.Update(read("max_write_zero", blkdebug.max_write_zero(),
                     &options.max_write_zero));
  status.Update(
      read("opt_discard", blkdebug.opt_discard(), &options.opt_discard));
  status.Update(
      read("max_discard", blkdebug.max_discard(), &options.max_discard));
  if (!status.ok()) return status;
  if ((options.align & (options.align - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "align ", options.align, " is not a power of two; give one"));
  }
  return options;
}

using DriverOr = absl::StatusOr<std::unique_ptr<Driver>>;

DriverOr MakeThrottle(const proto::Throttle& throttle,
                      const OpenContext& context) {
  auto group = ThrottleGroupOf(throttle, context);
  if (!group.ok()) return group.status();
  return std::make_unique<ThrottleDriver>(*std::move(group));
}

DriverOr MakeBlkdebug(const proto::Blkdebug& blkdebug) {
  const auto options = BlkdebugOptionsOf(blkdebug);
  if (!options.ok()) return options.status();
  auto rules = BlkdebugRulesOf(blkdebug);
  if (!rules.ok()) return rules.status();
  return std::make_unique<BlkdebugDriver>(*options, *std::move(rules));
}

}  // namespace

DriverOr MakeFilter(const proto::Node& spec, const OpenContext& context) {
  if (spec.has_throttle()) return MakeThrottle(spec.throttle(), context);
  if (spec.has_blkdebug()) return MakeBlkdebug(spec.blkdebug());
  return std::make_unique<CopyOnReadDriver>();
}

Task<absl::StatusOr<Node*>> Opener::OpenFilterChild(const proto::Node& spec) {
  if (spec.has_throttle()) return OpenChild(spec, spec.throttle());
  if (spec.has_blkdebug()) return OpenChild(spec, spec.blkdebug());
  return OpenChild(spec, spec.copy_on_read());
}

Task<absl::StatusOr<Node*>> Opener::OpenFilter(const proto::Node& spec) {
  auto driver = MakeFilter(spec, context_);
  if (!driver.ok()) co_return driver.status();
  const auto below = co_await OpenFilterChild(spec);
  if (!below.ok()) co_return below;
  std::vector<Edge> edges = {{"file", ChildRole::kFilter, *below}};
  co_return co_await Add(spec, *std::move(driver), std::move(edges));
}

}  // namespace bgfs
