#include "config/flat.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "config/path.h"

namespace bgfs::config {
namespace {

using proto::Node;
using proto::Qcow2;
using proto::Raw;

// Gives `to` each setting that only `from` has.
void Inherit(const proto::Cache& from, proto::Cache* to) {
  proto::Cache merged = from;
  merged.MergeFrom(*to);
  *to = merged;
}

class Flattener {
 public:
  explicit Flattener(const Source& source) : source_(source) {}

  FlatGraph Run() {
    const Place root = source_.place();
    for (int i = 0; i < source_.config.nodes_size(); ++i) {
      AddNode(source_.config.nodes(i),
              root.In(proto::Config::kNodesFieldNumber, i), kNone, Role::kFile);
    }
    for (FlatNode& node : graph_.nodes) {
      for (FlatChild& child : node.children) {
        if (child.target != kNone) continue;
        const auto found = graph_.by_name.find(child.name);
        if (found != graph_.by_name.end()) child.target = found->second;
      }
    }
    return std::move(graph_);
  }

 private:
  int AddNode(const Node& written, Place place, int parent, Role role) {
    const int index = static_cast<int>(graph_.nodes.size());
    FlatNode& flat = graph_.nodes.emplace_back();
    flat.node = written;
    flat.parent = parent;
    flat.role = role;
    flat.place = place;
    flat.written = &written;
    InheritFromParent(&flat);
    if (written.has_node_name()) {
      graph_.by_name.try_emplace(written.node_name(), index);
    }
    switch (written.driver_case()) {
      case Node::kFile:
        flat.driver = place.In(Node::kFileFieldNumber);
        SettleFile(&flat);
        break;
      case Node::kRaw:
        flat.driver = place.In(Node::kRawFieldNumber);
        flat.node.mutable_raw()->clear_file_child();
        AddRawChildren(written.raw(), index);
        break;
      case Node::kQcow2:
        flat.driver = place.In(Node::kQcow2FieldNumber);
        flat.node.mutable_qcow2()->clear_file_child();
        flat.node.mutable_qcow2()->clear_backing_child();
        AddQcow2Children(written.qcow2(), index);
        break;
      case Node::kNull:
        flat.driver = place.In(Node::kNullFieldNumber);
        break;
      case Node::kMemory:
        flat.driver = place.In(Node::kMemoryFieldNumber);
        break;
      case Node::kThrottle:
        flat.driver = place.In(Node::kThrottleFieldNumber);
        flat.node.mutable_throttle()->clear_file_child();
        AddFilterChild(written.throttle(), index);
        break;
      case Node::kCopyOnRead:
        flat.driver = place.In(Node::kCopyOnReadFieldNumber);
        flat.node.mutable_copy_on_read()->clear_file_child();
        AddFilterChild(written.copy_on_read(), index);
        break;
      case Node::kBlkdebug:
        flat.driver = place.In(Node::kBlkdebugFieldNumber);
        flat.node.mutable_blkdebug()->clear_file_child();
        AddFilterChild(written.blkdebug(), index);
        break;
      case Node::DRIVER_NOT_SET:
        flat.driver = place;
        break;
    }
    return index;
  }

  int AddInlineFile(const proto::File& written, Place place, int parent) {
    const int index = static_cast<int>(graph_.nodes.size());
    FlatNode& flat = graph_.nodes.emplace_back();
    *flat.node.mutable_file() = written;
    flat.parent = parent;
    flat.place = place;
    flat.driver = place;
    SettleFile(&flat);
    InheritFromParent(&flat);
    return index;
  }

  // A File's own cache settings are the node's.
  void SettleFile(FlatNode* flat) {
    proto::File* file = flat->node.mutable_file();
    if (file->has_filename()) {
      file->set_filename(Resolve(source_.folder, file->filename()));
    }
    if (file->has_cache()) {
      flat->node.mutable_cache()->MergeFrom(file->cache());
      file->clear_cache();
    }
  }

  void InheritFromParent(FlatNode* flat) {
    if (flat->parent == kNone) return;
    const Node& parent = graph_.nodes[flat->parent].node;
    Node* node = &flat->node;
    if (parent.has_cache()) Inherit(parent.cache(), node->mutable_cache());
    if (parent.has_force_share() && !node->has_force_share()) {
      node->set_force_share(parent.force_share());
    }
    if (!node->has_discard()) node->set_discard(proto::Discard::UNMAP);
  }

  // Those below take the parent's index: adding nodes moves them.
  template <typename Filter>
  void AddFilterChild(const Filter& filter, int index) {
    const Place place = graph_.nodes[index].driver;
    if (filter.has_file_inline()) {
      const Place file = place.In(Filter::kFileInlineFieldNumber);
      AddEdge(index, Role::kFile, "",
              AddNode(filter.file_inline(), file, index, Role::kFile),
              file.start());
    } else if (filter.has_file_node()) {
      AddEdge(index, Role::kFile, filter.file_node(), kNone,
              place.Field(Filter::kFileNodeFieldNumber));
    }
  }

  void AddRawChildren(const Raw& raw, int index) {
    const Place place = graph_.nodes[index].driver;
    if (raw.has_file()) {
      const Place file = place.In(Raw::kFileFieldNumber);
      AddEdge(index, Role::kFile, "", AddInlineFile(raw.file(), file, index),
              file.start());
    } else if (raw.has_file_node()) {
      AddEdge(index, Role::kFile, raw.file_node(), kNone,
              place.Field(Raw::kFileNodeFieldNumber));
    }
  }

  void AddQcow2Children(const Qcow2& qcow2, int index) {
    const Place place = graph_.nodes[index].driver;
    if (qcow2.has_file()) {
      const Place file = place.In(Qcow2::kFileFieldNumber);
      AddEdge(index, Role::kFile, "", AddInlineFile(qcow2.file(), file, index),
              file.start());
    } else if (qcow2.has_file_node()) {
      AddEdge(index, Role::kFile, qcow2.file_node(), kNone,
              place.Field(Qcow2::kFileNodeFieldNumber));
    }
    if (qcow2.has_backing_inline()) {
      const Place backing = place.In(Qcow2::kBackingInlineFieldNumber);
      AddEdge(index, Role::kBacking, "",
              AddNode(qcow2.backing_inline(), backing, index, Role::kBacking),
              backing.start());
    } else if (qcow2.has_backing()) {
      AddEdge(index, Role::kBacking, qcow2.backing(), kNone,
              place.Field(Qcow2::kBackingFieldNumber));
    }
  }

  void AddEdge(int parent, Role role, std::string name, int target,
               Position at) {
    graph_.nodes[parent].children.push_back(
        {role, std::move(name), target, at});
  }

  const Source& source_;
  FlatGraph graph_;
};

}  // namespace

int FlatGraph::Child(int node, Role role) const {
  for (const FlatChild& child : nodes[node].children) {
    if (child.role == role) return child.target;
  }
  return kNone;
}

std::string FlatGraph::Describe(int node) const {
  const FlatNode& flat = nodes[node];
  if (flat.node.has_node_name()) {
    return absl::StrCat("node ", Quote(flat.node.node_name()));
  }
  if (flat.parent == kNone) return "a node without a name";
  const Node& parent = nodes[flat.parent].node;
  if (!parent.has_node_name()) return "an inline node";
  return absl::StrCat("the ", flat.role == Role::kFile ? "file" : "backing",
                      " of node ", Quote(parent.node_name()));
}

FlatGraph Flatten(const Source& source) { return Flattener(source).Run(); }

// Depth first with a stack of its own, since a chain may be as long as a
// configuration allows. A child that is still on the stack closes a cycle.
Order ChildrenFirst(const FlatGraph& graph) {
  struct Frame {
    int node;
    size_t next_child;
  };
  constexpr int kUnseen = -1;
  constexpr int kDone = -2;
  std::vector<int> depth(graph.nodes.size(), kUnseen);
  Order order;
  std::vector<Frame> stack;
  const auto enter = [&](int node) {
    depth[node] = static_cast<int>(stack.size());
    stack.push_back({node, 0});
  };
  for (int top = 0; top < static_cast<int>(graph.nodes.size()); ++top) {
    if (depth[top] == kUnseen) enter(top);
    while (!stack.empty()) {
      Frame& frame = stack.back();
      const auto& children = graph.nodes[frame.node].children;
      if (frame.next_child == children.size()) {
        depth[frame.node] = kDone;
        order.nodes.push_back(frame.node);
        stack.pop_back();
        continue;
      }
      const int child = children[frame.next_child++].target;
      if (child == kNone || depth[child] == kDone) continue;
      if (depth[child] == kUnseen) {
        enter(child);
        continue;
      }
      if (order.cycles.size() == kMaxCycles) continue;
      std::vector<int>& cycle = order.cycles.emplace_back();
      for (size_t i = depth[child]; i < stack.size(); ++i) {
        cycle.push_back(stack[i].node);
      }
    }
  }
  return order;
}

std::vector<int> FirstBelow(const FlatGraph& graph,
                            absl::FunctionRef<bool(int)> wanted) {
  std::vector<int> first(graph.nodes.size(), kNone);
  for (const int node : ChildrenFirst(graph).nodes) {
    const int file = graph.Child(node, Role::kFile);
    if (wanted(node)) {
      first[node] = node;
    } else if (file != kNone) {
      first[node] = first[file];
    }
  }
  return first;
}

std::vector<Writer> Writers(const FlatGraph& graph,
                            const proto::Config& config) {
  const std::vector<int> blocked = FirstBelow(
      graph, [&](int node) { return graph.nodes[node].node.read_only(); });
  std::vector<Writer> writers;
  for (int i = 0; i < config.exports_size(); ++i) {
    if (!config.exports(i).writable()) continue;
    const auto found = graph.by_name.find(config.exports(i).node());
    if (found == graph.by_name.end()) continue;
    const int top = found->second;
    writers.push_back(
        {.export_index = i, .top = top, .blocked_at = blocked[top]});
  }
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    const Node& node = graph.nodes[i].node;
    if (!node.has_read_only() || node.read_only()) continue;
    writers.push_back({.node = i, .top = i, .blocked_at = blocked[i]});
  }
  return writers;
}

std::vector<bool> OpenedForWriting(const FlatGraph& graph,
                                   const std::vector<Writer>& writers) {
  std::vector<bool> opened(graph.nodes.size());
  for (const Writer& writer : writers) {
    if (writer.blocked_at != kNone) continue;
    // What lies below a node that is marked is marked.
    for (int node = writer.top; node != kNone && !opened[node];
         node = graph.Child(node, Role::kFile)) {
      opened[node] = true;
    }
  }
  return opened;
}

}  // namespace bgfs::config
