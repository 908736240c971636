#include "config/base_copies.h"

#include <numeric>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace bgfs::config {
namespace {

// Marks what is reached from `tops`, which are marked already.
void MarkBelow(const FlatGraph& graph, std::vector<int> tops,
               std::vector<bool>* marked) {
  while (!tops.empty()) {
    const int node = tops.back();
    tops.pop_back();
    for (const FlatChild& child : graph.nodes[node].children) {
      if (child.target == kNone || (*marked)[child.target]) continue;
      (*marked)[child.target] = true;
      tops.push_back(child.target);
    }
  }
}

// Appends a copy of `top` and all below; gives the copy's index. `origin` says
// of every node what it is a copy of: itself, where it is none.
int Copy(const FlatGraph& from, int top, FlatGraph* to,
         std::vector<int>* origin) {
  const std::vector<int> nodes = NodesFrom(from, top);
  absl::flat_hash_map<int, int> copies;
  for (size_t i = 0; i < nodes.size(); ++i) {
    copies[nodes[i]] = static_cast<int>(to->nodes.size() + i);
  }
  for (const int node : nodes) {
    FlatNode copy = from.nodes[node];
    copy.node.clear_node_name();
    copy.parent = kNone;
    if (copy.node.has_qcow2()) copy.node.mutable_qcow2()->set_share_base(false);
    for (FlatChild& child : copy.children) child.target = copies[child.target];
    to->nodes.push_back(std::move(copy));
    origin->push_back(node);
  }
  return copies[top];
}

// Nodes that stand below such an edge only, and are shown by no export, were
// written to be copied.
std::vector<bool> Wanted(const FlatGraph& graph, const proto::Config& config,
                         const std::vector<bool>& copied) {
  std::vector<bool> wanted(graph.nodes.size());
  for (size_t i = 0; i < copied.size(); ++i) wanted[i] = !copied[i];
  for (const proto::Export& item : config.exports()) {
    wanted[graph.by_name.at(item.node())] = true;
  }
  std::vector<int> tops;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) tops.push_back(static_cast<int>(i));
  }
  MarkBelow(graph, std::move(tops), &wanted);
  return wanted;
}

void KeepOnly(const std::vector<bool>& wanted, FlatGraph* graph) {
  std::vector<int> moved(wanted.size(), kNone);
  std::vector<FlatNode> nodes;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i]) continue;
    moved[i] = static_cast<int>(nodes.size());
    nodes.push_back(std::move(graph->nodes[i]));
  }
  for (FlatNode& flat : nodes) {
    if (flat.parent != kNone) flat.parent = moved[flat.parent];
    for (FlatChild& child : flat.children) child.target = moved[child.target];
  }
  graph->nodes = std::move(nodes);
  graph->by_name.clear();
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    const proto::Node& node = graph->nodes[i].node;
    if (node.has_node_name()) {
      graph->by_name.emplace(node.node_name(), static_cast<int>(i));
    }
  }
}

}  // namespace

bool HasOwnBase(const FlatNode& flat) {
  return flat.node.has_qcow2() && !flat.node.qcow2().share_base();
}

std::vector<int> NodesFrom(const FlatGraph& graph, int top) {
  std::vector<int> nodes = {top};
  absl::flat_hash_map<int, bool> seen = {{top, true}};
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const FlatChild& child : graph.nodes[nodes[i]].children) {
      if (child.target == kNone) continue;
      if (seen.emplace(child.target, true).second) {
        nodes.push_back(child.target);
      }
    }
  }
  return nodes;
}

void CopyBases(const proto::Config& config, FlatGraph* graph) {
  const FlatGraph written = *graph;
  std::vector<bool> copied(written.nodes.size());
  std::vector<int> bases;
  std::vector<int> origin(written.nodes.size());
  std::iota(origin.begin(), origin.end(), 0);
  for (size_t i = 0; i < written.nodes.size(); ++i) {
    if (!HasOwnBase(written.nodes[i])) continue;
    for (FlatChild& child : graph->nodes[i].children) {
      if (child.role != Role::kBacking) continue;
      bases.push_back(child.target);
      copied[child.target] = true;
      const int copy = Copy(written, child.target, graph, &origin);
      // Copy() has moved the nodes, and this is the last child.
      graph->nodes[i].children.back().target = copy;
      break;
    }
  }
  if (bases.empty()) return;
  MarkBelow(written, bases, &copied);
  const std::vector<bool> wanted = Wanted(*graph, config, copied);
  std::vector<int> count(written.nodes.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i]) ++count[origin[i]];
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    graph->nodes[i].copies = count[origin[i]];
  }
  KeepOnly(wanted, graph);
}

}  // namespace bgfs::config
