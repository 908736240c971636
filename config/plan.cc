#include "config/plan.h"

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/base_copies.h"
#include "config/flat.h"
#include "config/path.h"
#include "config/size.h"
#include "config/validate.h"
#include "graph/async/check.h"

namespace bgfs::config {
namespace {

using proto::Node;

void ToBytes(std::string* size) { *size = absl::StrCat(*ParseSize(*size)); }

// Of a message whose strings are all sizes, but for these.
void NormaliseAll(google::protobuf::Message* message,
                  const std::set<std::string>& but = {}) {
  const auto& reflection = *message->GetReflection();
  const auto& fields = *message->GetDescriptor();
  for (int i = 0; i < fields.field_count(); ++i) {
    const auto* field = fields.field(i);
    if (field->is_repeated() || field->cpp_type() != field->CPPTYPE_STRING ||
        !reflection.HasField(*message, field) || but.contains(field->name())) {
      continue;
    }
    std::string size = reflection.GetString(*message, field);
    ToBytes(&size);
    reflection.SetString(message, field, size);
  }
}

void NormaliseBlkdebug(proto::Blkdebug* blkdebug) {
  NormaliseAll(blkdebug, {"file_node"});
  for (auto& rule : *blkdebug->mutable_inject_error()) {
    NormaliseAll(&rule, {"error"});
  }
  for (auto& rule : *blkdebug->mutable_inject_delay()) NormaliseAll(&rule);
  for (auto& rule : *blkdebug->mutable_suspend()) NormaliseAll(&rule, {"tag"});
}

void NormaliseSizes(Node* node) {
  if (node->has_write_threshold()) ToBytes(node->mutable_write_threshold());
  if (node->has_raw()) {
    proto::Raw* raw = node->mutable_raw();
    if (raw->has_offset()) ToBytes(raw->mutable_offset());
    if (raw->has_size()) ToBytes(raw->mutable_size());
  } else if (node->has_qcow2() && node->qcow2().has_l2_cache_size()) {
    ToBytes(node->mutable_qcow2()->mutable_l2_cache_size());
  } else if (node->has_null() && node->null().has_size()) {
    ToBytes(node->mutable_null()->mutable_size());
  } else if (node->has_memory()) {
    ToBytes(node->mutable_memory()->mutable_size());
  } else if (node->has_throttle() && node->throttle().has_limits()) {
    NormaliseAll(node->mutable_throttle()->mutable_limits());
  } else if (node->has_blkdebug()) {
    NormaliseBlkdebug(node->mutable_blkdebug());
  }
}

void LinkChild(Role role, const std::string& name, Node* node) {
  if (role == Role::kBacking) {
    node->mutable_qcow2()->set_backing(name);
  } else if (node->has_qcow2()) {
    node->mutable_qcow2()->set_file_node(name);
  } else if (node->has_throttle()) {
    node->mutable_throttle()->set_file_node(name);
  } else if (node->has_copy_on_read()) {
    node->mutable_copy_on_read()->set_file_node(name);
  } else if (node->has_blkdebug()) {
    node->mutable_blkdebug()->set_file_node(name);
  } else {
    node->mutable_raw()->set_file_node(name);
  }
}

// The number of the part that each node belongs to.
struct Parts {
  std::vector<int> of_node;
  int count = 0;
};

Parts FindParts(const FlatGraph& graph) {
  const size_t size = graph.nodes.size();
  std::vector<std::vector<int>> neighbours(size);
  for (size_t i = 0; i < size; ++i) {
    for (const FlatChild& child : graph.nodes[i].children) {
      neighbours[i].push_back(child.target);
      neighbours[child.target].push_back(static_cast<int>(i));
    }
  }
  Parts parts;
  parts.of_node.assign(size, kNone);
  for (size_t i = 0; i < size; ++i) {
    if (parts.of_node[i] != kNone) continue;
    const int part = parts.count++;
    parts.of_node[i] = part;
    std::vector<int> pending = {static_cast<int>(i)};
    while (!pending.empty()) {
      const int node = pending.back();
      pending.pop_back();
      for (const int neighbour : neighbours[node]) {
        if (parts.of_node[neighbour] != kNone) continue;
        parts.of_node[neighbour] = part;
        pending.push_back(neighbour);
      }
    }
  }
  return parts;
}

// Parents first. A node without a name has one parent.
std::vector<std::string> FindKeys(const FlatGraph& graph,
                                  const std::vector<int>& children_first) {
  std::vector<std::string> keys(graph.nodes.size());
  for (auto it = children_first.rbegin(); it != children_first.rend(); ++it) {
    const FlatNode& flat = graph.nodes[*it];
    if (flat.node.has_node_name()) keys[*it] = flat.node.node_name();
    for (const FlatChild& child : flat.children) {
      keys[child.target] = absl::StrCat(
          keys[*it], child.role == Role::kFile ? "/file" : "/backing");
    }
  }
  return keys;
}

proto::Export CompleteExport(const Source& source, int index) {
  proto::Export item = source.config.exports(index);
  proto::Fuse* fuse = item.mutable_fuse();
  if (!fuse->has_mode()) fuse->set_mode(item.writable() ? 0600 : 0400);
  if (fuse->has_mountpoint()) {
    fuse->set_mountpoint(Resolve(source.folder, fuse->mountpoint()));
  }
  return item;
}

}  // namespace

Plan MakePlan(const Source& source, absl::FunctionRef<std::string()> new_name) {
  BGFS_CHECK(Validate(source).empty());
  FlatGraph graph = Flatten(source);
  CopyBases(source.config, &graph);
  const std::vector<bool> written =
      OpenedForWriting(graph, Writers(graph, source.config));
  const Parts parts = FindParts(graph);
  Plan plan;
  plan.parts = parts.count;
  const std::vector<int> order = ChildrenFirst(graph).nodes;
  const std::vector<std::string> keys = FindKeys(graph, order);
  for (const int index : order) {
    const FlatNode& flat = graph.nodes[index];
    Node node = flat.node;
    if (!node.has_node_name()) node.set_node_name(new_name());
    node.set_read_only(!written[index]);
    NormaliseSizes(&node);
    for (const FlatChild& child : flat.children) {
      LinkChild(child.role, graph.nodes[child.target].node.node_name(), &node);
    }
    graph.nodes[index].node = node;
    plan.steps.push_back(OpenNode{parts.of_node[index], std::move(node),
                                  keys[index], flat.copies});
  }
  for (int i = 0; i < source.config.exports_size(); ++i) {
    const int node = graph.by_name.at(source.config.exports(i).node());
    plan.steps.push_back(
        AddExport{parts.of_node[node], CompleteExport(source, i)});
  }
  plan.implicit_files = source.config.implicit_files();
  for (const std::string& folder : source.config.allow_implicit()) {
    plan.allow_implicit.push_back(Resolve(source.folder, folder));
  }
  for (proto::ThrottleGroup group : source.config.throttle_groups()) {
    if (group.has_limits()) NormaliseAll(group.mutable_limits());
    plan.throttle_groups.push_back(std::move(group));
  }
  return plan;
}

}  // namespace bgfs::config
