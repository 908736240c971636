// From a configuration to the steps that bring it about.
//
// A plan begins with nothing, so every step opens or adds something;
// difference.h compares it with what is live.
#ifndef BGFS_CONFIG_PLAN_H_
#define BGFS_CONFIG_PLAN_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "config/source.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

// Nodes that edges connect, in whatever direction, are one part, and so are
// their exports: it has one home loop. Parts are numbered from 0 and know
// nothing of each other.

// Opens one node. Its message is complete: it has a node_name and a read_only;
// its children are names (file_node, backing) of nodes that earlier steps
// opened; cache and force_share are as inherited; file names are absolute;
// sizes are decimal numbers of bytes. A qcow2 without `backing` opens the chain
// that its header names.
struct OpenNode {
  int part = 0;
  proto::Node node;
  // What stays the same from one configuration to the next: its name, or for
  // a node without one its place, "top/backing/file".
  std::string key;
  // So often this node, and what its header names, are open in all parts
  // together.
  int copies = 1;
  int named_copies = 1;
};

// Adds one export of a node that is open. The mode is set, a mountpoint is
// absolute.
struct AddExport {
  int part = 0;
  proto::Export item;
};

using Step = std::variant<OpenNode, AddExport>;

struct Plan {
  // To be done in this order; what a failing step leaves is undone backwards.
  std::vector<Step> steps;
  int parts = 0;

  // Where names in image headers may lead; folders are absolute.
  proto::ImplicitFiles::Policy implicit_files = proto::ImplicitFiles::SAME_DIR;
  std::vector<std::string> allow_implicit;

  // The groups that nodes name, before any is opened.
  std::vector<proto::ThrottleGroup> throttle_groups;
};

// `source` is one in which Validate found nothing; anything else is a bug and
// aborts. `new_name` gives the next generated node name ("#block123"), one that
// no node has. Pure.
Plan MakePlan(const Source& source, absl::FunctionRef<std::string()> new_name);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_PLAN_H_
