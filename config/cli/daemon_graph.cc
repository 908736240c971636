// What a daemon tells of its live graph.

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "config/cli/daemon.h"
#include "drivers/file.h"
#include "graph/permissions.h"

namespace bgfs::cli {
namespace {

// For all homes together: one that works answers at once.
constexpr auto kAskLimit = std::chrono::milliseconds(500);

void AddRights(Permissions rights,
               google::protobuf::RepeatedPtrField<std::string>* names) {
  if (rights == 0) return;
  for (const auto name : absl::StrSplit(PermissionNames(rights), ", ")) {
    *names->Add() = std::string(name);
  }
}

control::GraphEdge EdgeOf(const Child& edge, absl::string_view name) {
  control::GraphEdge message;
  message.set_name(Text(name));
  message.set_node(Text(edge.node().name()));
  AddRights(edge.permissions().used, message.mutable_uses());
  AddRights(edge.permissions().shared, message.mutable_shares());
  return message;
}

control::GraphNode NodeOf(const Node& node, int home) {
  control::GraphNode message;
  message.set_name(Text(node.name()));
  message.set_driver(std::string(node.driver().format_name()));
  message.set_size_bytes(static_cast<uint64_t>(node.size()));
  message.set_read_only(node.read_only());
  message.set_home(home);
  if (node.driver().format_name() == "file") {
    message.set_filename(
        Text(static_cast<const FileDriver&>(node.driver()).filename()));
  }
  for (const auto& child : node.children()) {
    *message.add_children() = EdgeOf(*child, child->name());
  }
  for (const Child* edge : node.parents()) {
    if (edge->parent() != nullptr) continue;
    const std::string described = edge->Describe();
    absl::string_view user = described;
    absl::ConsumePrefix(&user, "export ");
    *message.add_exports() = EdgeOf(*edge, user);
  }
  return message;
}

Task<std::vector<control::GraphNode>> NodesOf(Graph* graph, int home) {
  std::vector<control::GraphNode> nodes;
  for (auto it = graph->nodes().rbegin(); it != graph->nodes().rend(); ++it) {
    nodes.push_back(NodeOf(**it, home));
  }
  co_return nodes;
}

}  // namespace

control::GraphReply Daemon::Graph() {
  using Nodes = std::vector<control::GraphNode>;
  control::GraphReply reply;
  const std::lock_guard<std::mutex> lock(mutex_);
  // As Status(): meanwhile no part can go.
  if (phase_ != Phase::kServing) return reply;
  std::vector<config::Pending<Nodes>> asked;
  for (const auto& [number, graph] : live_->graphs()) {
    asked.push_back(config::Pending<Nodes>::Start(live_->home(number),
                                                  NodesOf(graph, number)));
  }
  const auto deadline = std::chrono::steady_clock::now() + kAskLimit;
  for (auto& pending : asked) {
    std::optional<Nodes> nodes = pending.WaitUntil(deadline);
    if (!nodes.has_value()) {
      reply.set_silent_homes(reply.silent_homes() + 1);
      continue;
    }
    for (control::GraphNode& node : *nodes) {
      *reply.add_nodes() = std::move(node);
    }
  }
  return reply;
}

}  // namespace bgfs::cli
