#include "graph/graph.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/container/flat_hash_map.h"
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

Task<absl::Status> Graph::EndNode(Node* node) {
  absl::Status outcome;
  if (!node->read_only()) {
    const IoStatus flushed = co_await FlushNode(*node);
    outcome = flushed.ToStatus(absl::StrCat(
        "node \"", node->name(), "\": what was written is not durable"));
  }
  co_await node->in_flight().WaitIdle();
  co_await node->driver().Close();
  RemoveNode(node);
  co_return outcome;
}

void Graph::LetGo() {
  if (std::exchange(let_go_, true)) return;
  for (const auto& node : nodes_) node->driver().OnDrainBegin();
}

Task<absl::Status> Graph::Close() {
  LetGo();
  absl::Status outcome;
  while (!nodes_.empty()) {
    outcome.Update(co_await EndNode(nodes_.back().get()));
  }
  co_return outcome;
}

Task<absl::Status> Graph::CloseUnused(
    const absl::flat_hash_set<const Node*>& keep) {
  absl::Status outcome;
  // Parents come before their children.
  for (size_t i = nodes_.size(); i-- > 0;) {
    Node* const node = nodes_[i].get();
    if (!node->parents().empty() || keep.contains(node)) continue;
    outcome.Update(co_await EndNode(node));
  }
  co_return outcome;
}

void Graph::SortNodes() {
  const auto order = ParentsFirst(*this);
  BGFS_CHECK(order.ok());
  absl::flat_hash_map<const Node*, size_t> place;
  for (size_t i = 0; i < order->size(); ++i) place[(*order)[i]] = i;
  std::sort(
      nodes_.begin(), nodes_.end(),
      [&place](const std::unique_ptr<Node>& a, const std::unique_ptr<Node>& b) {
        return place[a.get()] > place[b.get()];
      });
}

}  // namespace bgfs
