// PermissionUpdate: a change of one edge's rights, carried down the graph
// (engine.md, 4). The wanted rights of every edge below are computed in
// topological order and checked against all other users of each node; then
// the protocols take or give up image locks; then everything is committed. A
// failure anywhere leaves all as it was.

#ifndef BGFS_GRAPH_PERMISSIONS_H_
#define BGFS_GRAPH_PERMISSIONS_H_

#include <vector>

#include "absl/status/status.h"
#include "graph/node.h"
#include "graph/types.h"

namespace bgfs {

class PermissionUpdate {
 public:
  // Gives the root edge `root` these rights. PERMISSION_DENIED names both
  // sides of a conflict.
  static absl::Status SetRoot(Child* root, const PermissionSet& wanted);
  // Gives an edge that was just added what its parent's driver needs.
  static absl::Status Attach(Child* edge);
  // Takes all rights from an edge that is about to go. Cannot be refused.
  static void Detach(Child* edge);

 private:
  explicit PermissionUpdate(Child* edge);

  absl::Status Apply(const PermissionSet& wanted);
  absl::Status Compute();
  absl::Status CheckUsers(const Node& node) const;
  absl::Status Prepare();
  void Commit();

  Child* const edge_;
  std::vector<Node*> nodes_;  // edge_'s node and all below, parents first
};

// Of all users of the node together, as committed.
PermissionSet UsersOf(const Node& node);

}  // namespace bgfs

#endif  // BGFS_GRAPH_PERMISSIONS_H_
