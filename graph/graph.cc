#include "graph/graph.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"
#include "graph/permissions.h"

namespace bgfs {

Graph::~Graph() { BGFS_CHECK(nodes_.empty()); }

std::string Graph::NewNodeName() {
  static std::atomic<int64_t> next{1};
  return absl::StrCat("#block", next.fetch_add(1));
}

Node* Graph::AddNode(NodeOptions options, std::unique_ptr<Driver> driver) {
  if (options.name.empty()) options.name = NewNodeName();
  BGFS_CHECK(options.name.size() <= Node::kMaxNameBytes);
  BGFS_CHECK(FindNode(options.name) == nullptr);
  nodes_.push_back(
      std::make_unique<Node>(this, std::move(options), std::move(driver)));
  nodes_.back()->RefreshLimits();
  return nodes_.back().get();
}

void Graph::RemoveNode(Node* node) {
  auto it = std::find_if(
      nodes_.begin(), nodes_.end(),
      [node](const std::unique_ptr<Node>& held) { return held.get() == node; });
  BGFS_CHECK(it != nodes_.end());
  // What it holds on nodes that stay (their image locks) goes with it.
  for (const auto& child : node->children()) {
    PermissionUpdate::Detach(child.get());
  }
  nodes_.erase(it);
}

Node* Graph::FindNode(absl::string_view name) const {
  for (const auto& node : nodes_) {
    if (node->name() == name) return node.get();
  }
  return nullptr;
}

Task<absl::Status> Graph::Close() {
  absl::Status outcome;
  while (!nodes_.empty()) {
    Node* node = nodes_.back().get();
    if (!node->read_only()) {
      const IoStatus flushed = co_await FlushNode(*node);
      outcome.Update(flushed.ToStatus(absl::StrCat(
          "node \"", node->name(), "\": what was written is not durable")));
    }
    co_await node->in_flight().WaitIdle();
    co_await node->driver().Close();
    nodes_.pop_back();
  }
  co_return outcome;
}

}  // namespace bgfs
