// Transaction: changes of one connected part's graph that are made together or
// not at all (engine.md, 5).
//
//   Transaction change(&graph);
//   change.Link(edge, filter);              // what is wanted; nothing happens
//   change.Reopen(node, options, driver);
//   status = co_await change.Prepare();     // all of it, under a drain
//   if (status.ok()) co_await change.Commit(); else: all is as it was
//
// Between Prepare() and Commit() or Abort() the graph has its new form, and the
// clients wait at their gates: whoever changes several parts, or has more to
// do that can fail, does it then. What Prepare() goes through, and undoes
// backwards when a step fails:
//
//   1  drain what is touched, refuse what is frozen or would be a cycle
//   2  flush and settle what gets another driver
//   3  edges, names, options and drivers are exchanged
//   4  new drivers of protocols open (they have no children)
//   5  rights of all edges, checked and taken; image locks are those of both
//   6  the other new drivers open, children first
//
// Commit() gives up what was only needed before, and lets the clients go on.
// Nodes that nobody uses any more stay; Graph::CloseUnused() ends them.

#ifndef BGFS_GRAPH_TRANSACTION_H_
#define BGFS_GRAPH_TRANSACTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "graph/async/task.h"
#include "graph/backend.h"
#include "graph/drain.h"
#include "graph/graph.h"
#include "graph/node.h"
#include "graph/permissions.h"

namespace bgfs {

// Used at home.
class Transaction {
 public:
  explicit Transaction(Graph* graph) : graph_(graph) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  // Not between Prepare() and Commit() or Abort().
  ~Transaction();

  // What is to change; all nodes are the graph's. Each edge and node at most
  // once in each of these.

  // The edge, or the root of a backend, leads to another node.
  void Link(Child* edge, Node* to);
  void AddChild(Node* parent, std::string name, ChildRole role, Node* child);
  void DropChild(Child* edge);
  void SetRights(Child* root, const PermissionSet& rights);
  // Other options, and for a null `driver` the same driver. A driver that is
  // new is not open yet. The name in `options` may be new too.
  void Reopen(Node* node, NodeOptions options, std::unique_ptr<Driver> driver);

  bool empty() const { return steps_.empty() && rights_.empty(); }

  // How long Prepare() may wait for requests that are under way;
  // DEADLINE_EXCEEDED after it. No limit by default.
  void SetDrainLimit(int64_t limit_ns) { drain_limit_ns_ = limit_ns; }
  // Called before each step that could fail, with its number from 0 on; what it
  // returns is the step's outcome if that is an error. For tests.
  void SetFault(std::function<absl::Status(int step)> fault) {
    fault_ = std::move(fault);
  }

  // PERMISSION_DENIED, FAILED_PRECONDITION (frozen), UNAVAILABLE (locked by
  // another program), INVALID_ARGUMENT (a cycle), or what opening a driver
  // gave.
  Task<absl::Status> Prepare();
  // Cannot fail. What a driver that is replaced has left to do fails silently:
  // it was flushed.
  Task<void> Commit();
  Task<void> Abort();

 private:
  // One exchange; doing it again undoes it.
  struct Step {
    enum class Kind : uint8_t { kLink, kAddChild, kDropChild, kReopen };

    Kind kind;
    Child* edge = nullptr;         // of the first three, once it is there
    Node* node = nullptr;          // where to; the parent; what is reopened
    std::unique_ptr<Child> owned;  // while it is nobody's child
    NodeOptions options;
    std::unique_ptr<Driver> driver;  // the one that is not in use
    bool other_driver = false;
    bool opened = false;  // the new one
    int64_t old_size = 0;
  };

  Task<absl::Status> Begin();
  Task<absl::Status> Change();
  absl::Status CheckFrozen() const;
  Task<absl::Status> SettleBefore();
  void Exchange(Step* step);
  void LinkTo(Step* step);
  Task<absl::Status> OpenNew(bool protocols);
  absl::Status Fault();
  void RefreshLimits();
  Task<void> Undo();

  Graph* const graph_;
  std::vector<Step> steps_;
  size_t exchanged_ = 0;  // so many of them
  struct Rights {
    Child* root;
    PermissionSet wanted;
  };
  std::vector<Rights> rights_;
  std::unique_ptr<Drain> drain_;
  std::unique_ptr<PermissionUpdate> permissions_;  // prepared
  int64_t drain_limit_ns_ = 0;
  std::function<absl::Status(int)> fault_;
  int fault_step_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_TRANSACTION_H_
