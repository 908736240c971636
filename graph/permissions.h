// PermissionUpdate: a change of rights, carried down the graph (engine.md, 4).
// The wanted rights of every edge below are computed in topological order and
// checked against all other users of each node; then the protocols take image
// locks; then everything is committed. A failure anywhere leaves all as it was.

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

  // Of several edges at once: all of a graph whose edges have been changed. The
  // roots keep what they have, but for what Want() says; every other edge gets
  // what its parent's driver needs.
  explicit PermissionUpdate(Graph* graph);
  void Want(Child* root, const PermissionSet& wanted) {
    wanted_.push_back({root, wanted});
  }

  // The edges have their new rights, and what protocols held before they still
  // hold as well; exactly one of the others follows. Changes nothing where it
  // fails. None of them waits.
  absl::Status Prepare();
  void Commit();
  // The edges are again what they were before Prepare().
  void Abort();

 private:
  struct Wanted {
    Child* edge;
    PermissionSet rights;
  };

  PermissionUpdate(Child* edge, const PermissionSet& wanted);

  absl::Status Apply();
  absl::Status Compute();
  absl::Status CheckUsers(const Node& node) const;
  absl::Status PrepareDrivers();
  void Exchange();

  Graph* const graph_;
  std::vector<Wanted> wanted_;
  std::vector<Node*> nodes_;  // all that may be touched, parents first
};

// Of all users of the node together, as committed.
PermissionSet UsersOf(const Node& node);

// The nodes of the graph, parents first. INVALID_ARGUMENT names a node that
// stands on itself.
absl::StatusOr<std::vector<Node*>> ParentsFirst(const Graph& graph);

}  // namespace bgfs

#endif  // BGFS_GRAPH_PERMISSIONS_H_
