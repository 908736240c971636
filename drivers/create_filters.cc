// Opening filters: what stands on one node and changes no byte of it.

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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

std::vector<Opener::Edge> FilterEdge(Node* below) {
  return {{"file", ChildRole::kFilter, below}};
}

}  // namespace

Task<absl::StatusOr<Node*>> Opener::OpenThrottle(const proto::Node& spec) {
  auto group = ThrottleGroupOf(spec.throttle(), context_);
  if (!group.ok()) co_return group.status();
  const auto below = co_await OpenFilterChild(spec, spec.throttle());
  if (!below.ok()) co_return below;
  co_return co_await Add(spec,
                         std::make_unique<ThrottleDriver>(*std::move(group)),
                         FilterEdge(*below));
}

}  // namespace bgfs
