// What the daemon tells of itself as it happens, and the thresholds that make
// it tell.

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/cli/daemon.h"
#include "config/diagnostic.h"

namespace bgfs::cli {
namespace {

// A home hardly ever blocks.
constexpr auto kSetLimit = std::chrono::seconds(1);

Task<bool> SetThreshold(Graph* graph, std::string name, int64_t bytes) {
  Node* const node = graph->FindNode(name);
  if (node == nullptr) co_return false;
  node->SetWriteThreshold(bytes);
  co_return true;
}

}  // namespace

std::shared_ptr<config::EventHub::Follower> Daemon::FollowEvents() {
  return events_.Follow();
}

// Its name is in one graph only; which, only the homes know.
absl::Status Daemon::SetWriteThreshold(const std::string& node, int64_t bytes) {
  std::vector<config::Pending<bool>> asked;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ != Phase::kServing) {
      return absl::FailedPreconditionError(
          "the daemon is not serving: it is starting, or on its way to its "
          "end");
    }
    for (const auto& [part, graph] : live_->graphs()) {
      asked.push_back(config::Pending<bool>::Start(
          live_->home(part), SetThreshold(graph, node, bytes)));
    }
  }
  const auto deadline = std::chrono::steady_clock::now() + kSetLimit;
  bool all = true;
  for (config::Pending<bool>& pending : asked) {
    const std::optional<bool> found = pending.WaitUntil(deadline);
    if (found.value_or(false)) return absl::OkStatus();
    all &= found.has_value();
  }
  if (all) {
    return absl::NotFoundError(
        absl::StrCat("no node ", config::Quote(node), "; see: bgfs stats"));
  }
  return absl::UnavailableError(absl::StrCat(
      "node ", config::Quote(node),
      ": a disk does not answer; if the node lies there, the threshold is set "
      "once that does"));
}

void Daemon::TellAdded(int export_number) {
  const control::ExportStatus& status = exports_.at(export_number);
  control::Event event;
  event.mutable_export_added()->set_id(status.id());
  event.mutable_export_added()->set_node(status.node());
  event.mutable_export_added()->set_mountpoint(status.mountpoint());
  told_added_.insert(export_number);
  events_.Publish(std::move(event));
}

void Daemon::TellRemoved(int export_number) {
  if (told_added_.erase(export_number) == 0) return;
  const control::ExportStatus& status = exports_.at(export_number);
  control::Event event;
  event.mutable_export_removed()->set_id(status.id());
  event.mutable_export_removed()->set_node(status.node());
  event.mutable_export_removed()->set_mountpoint(status.mountpoint());
  events_.Publish(std::move(event));
}

void Daemon::EndEvents() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!told_added_.empty()) TellRemoved(*told_added_.begin());
  }
  events_.End();
}

}  // namespace bgfs::cli
