// Graph: one connected part of the block graph: its nodes, and the loop that is
// their home. Nodes are opened bottom-up (a child before its parents) and
// closed all together, parents first.

#ifndef BGFS_GRAPH_GRAPH_H_
#define BGFS_GRAPH_GRAPH_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/async/loop.h"
#include "graph/node.h"
#include "graph/observer.h"

namespace bgfs {

class Graph {
 public:
  // `home` outlives the graph, and so does `observer`, which may be null. From
  // any thread.
  explicit Graph(Loop* home, GraphObserver* observer = nullptr)
      : home_(home), observer_(observer) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  // Everything must have been closed.
  ~Graph();

  Loop& home() const { return *home_; }
  GraphObserver* observer() const { return observer_; }

  // The rest at home.

  // A name that no other node of the process has: "#block123". Whoever names
  // nodes before they are added takes it from here. From any thread.
  static std::string NewNodeName();

  // Adds a node. An empty name is replaced by a generated one; no other node of
  // the graph may have the name.
  Node* AddNode(NodeOptions options, std::unique_ptr<Driver> driver);
  // Takes back a node that nobody uses, with its edges (an open that failed
  // half-way); its driver's Close() has run.
  void RemoveNode(Node* node);
  Node* FindNode(absl::string_view name) const;
  const std::vector<std::unique_ptr<Node>>& nodes() const { return nodes_; }
  // Another number after every change of an edge or of its rights.
  int64_t rights_epoch() const { return rights_epoch_; }

  // Ends every node that nobody uses, as Close() does: those above which there
  // is no backend, but for what `keep` says. The first flush that failed is
  // reported; they are gone all the same.
  Task<absl::Status> CloseUnused(
      const absl::flat_hash_set<const Node*>& keep = {});
  // Puts nodes() in order again after edges were changed.
  void SortNodes();

  // Before all of it is closed: drivers let go what they hold back, as in a
  // drain, and hold nothing back any more. Close() does so itself.
  void LetGo();

  // Flushes every node that was written through, closes drivers, parents
  // first, and drops all nodes. No backend is left. The first flush that failed
  // is reported; everything is closed all the same.
  Task<absl::Status> Close();

 private:
  friend class PermissionUpdate;

  Task<absl::Status> EndNode(Node* node);

  Loop* const home_;
  GraphObserver* const observer_;
  int64_t rights_epoch_ = 0;
  bool let_go_ = false;
  std::vector<std::unique_ptr<Node>> nodes_;  // children before parents
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_GRAPH_H_
