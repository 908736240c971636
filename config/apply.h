// From a plan to live graphs, and from one configuration to the next while
// clients use them. There is one Graph and one home loop for each connected
// part. Drivers, loops and front ends come from factories, so that this floor
// knows none of them.
//
//   change = Compare(live.plan(), wanted)         difference.h
//   update = live.Prepare(change)     opens, drains, changes: or nothing at all
//   ... show what it adds; the clients wait ...
//   live.Commit(update)               or live.Abort(update)
//   ... take from sight what it removed ...
//   live.Finish(update)               removed exports are durable, nodes closed
//
// Nothing is shown to anybody here: mounting is the front end's.

#ifndef BGFS_CONFIG_APPLY_H_
#define BGFS_CONFIG_APPLY_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/difference.h"
#include "config/pending.h"
#include "config/plan.h"
#include "graph/async/loop.h"
#include "graph/export.h"
#include "graph/graph.h"
#include "graph/transaction.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

struct Factories {
  // A new home loop; `name` is its thread's.
  std::function<absl::StatusOr<std::unique_ptr<Loop>>(const std::string& name)>
      start_loop;

  // Opens one node of a plan in a graph, at its home. The step outlives the
  // task.
  std::function<Task<absl::StatusOr<Node*>>(Graph*, const OpenNode&)> open_node;

  // For a node that is to be reopened so.
  std::function<absl::StatusOr<std::unique_ptr<Driver>>(const OpenNode&)>
      make_driver;
  std::function<NodeOptions(const proto::Node&)> node_options;
  std::function<int64_t(const proto::Node&)> write_threshold;

  // Makes one export, at the home of its backend, which has no rights yet.
  std::function<absl::StatusOr<std::unique_ptr<BlockExport>>(
      const proto::Export&, std::unique_ptr<Backend>)>
      make_export;

  // At the home of an export that stays, when what is below it has changed. May
  // be empty. Must not wait.
  std::function<void(BlockExport*)> below_changed;

  // Asked now and then while a home does not answer: true gives up what is
  // being prepared, and the home. May be empty.
  std::function<bool()> given_up;

  // Of all graphs; may be null. Outlives them.
  GraphObserver* observer = nullptr;
};

// The rights an export takes (engine.md, 4). `written_beside`: another export
// of the same node is writable.
PermissionSet ExportPermissions(const proto::Export& item, bool written_beside);

// One live export.
struct LiveExport {
  int part = 0;
  proto::Export item;
  // Null once it is closed. Used at the home of its part.
  std::unique_ptr<BlockExport> block_export;
  // How it ended: whether what was written is durable.
  absl::Status outcome;
};

// Used by one thread that may block, at a time; never a loop's.
class LiveGraph {
 public:
  class Update;

  LiveGraph() = default;
  LiveGraph(const LiveGraph&) = delete;
  LiveGraph& operator=(const LiveGraph&) = delete;
  // Everything must be closed. One with a stuck part is never destroyed: the
  // kernel may own its buffers until the process ends.
  ~LiveGraph();

  // Opens everything, or nothing: what a failing step leaves is closed again.
  // The error is that step's.
  static absl::StatusOr<std::unique_ptr<LiveGraph>> Apply(
      const Plan& plan, const Factories& factories);

  // Does all of a change that can fail, or nothing of it. Until it is committed
  // or aborted, the clients of the parts that it touches wait. What clients
  // have under way has `drain_limit_ns` to end (0: no limit).
  absl::StatusOr<std::unique_ptr<Update>> Prepare(const Change& change,
                                                  const Factories& factories,
                                                  int64_t drain_limit_ns = 0);
  void Abort(std::unique_ptr<Update> update);
  // Exports that are removed refuse their clients from now on.
  void Commit(Update* update, const Factories& factories);
  // Waits for what ends by it; after the deadline that goes on by itself. The
  // error is the first one of a flush, or that something does not end.
  absl::Status Finish(std::unique_ptr<Update> update, Deadline deadline);
  // Forgets an export that ends by itself, its mount being gone; the error is
  // how it ended, or that it does not.
  absl::Status Reap(int number, Deadline deadline);
  // Gives the node of an export another size, durably, whatever rights its
  // clients have; they wait meanwhile. PERMISSION_DENIED names who else uses
  // the node and does not share that. Gives the size before.
  absl::StatusOr<int64_t> Resize(int number, int64_t size_bytes, bool shrink,
                                 const Factories& factories,
                                 int64_t drain_limit_ns);
  // Lets go of removed exports that no client has open any more.
  void Sweep();

  // As it was opened or changed last.
  const LivePlan& plan() const { return plan_; }
  // By numbers that are never given again.
  const std::map<int, LiveExport>& exports() const { return exports_; }
  Loop* home(int part) const { return parts_.at(part).loop.get(); }
  // By part. Each is used at its home.
  std::map<int, Graph*> graphs() const;

  // Begins to end all exports and to close all nodes, every part at once. Once.
  void BeginClose();

  // True when all has ended; the outcomes are in exports() then. False if some
  // parts, whose exports are those with a block_export left, have not by the
  // deadline; the others have. May be called again.
  bool WaitClosed(Deadline deadline);

 private:
  // How the exports and the nodes of a part ended.
  struct PartOutcome {
    std::vector<absl::Status> exports;
    absl::Status graph;
  };
  struct Part {
    std::unique_ptr<Loop> loop;
    std::unique_ptr<Graph> graph;  // null once closed
    std::vector<int> ending;       // exports that `closing` is about
    std::optional<Pending<PartOutcome>> closing;
    // Something does not end there that cannot be waited for any more.
    bool hangs = false;
    // Closed, but clients still have them open.
    std::vector<std::unique_ptr<BlockExport>> lingering;
  };

  static Task<PartOutcome> EndPart(
      Graph* graph, std::vector<BlockExport*> exports,
      std::vector<std::unique_ptr<BlockExport>>* lingering);
  static Task<void> EndIdle(
      std::vector<std::unique_ptr<BlockExport>>* lingering);
  static Task<PartOutcome> EndSome(Graph* graph, std::set<std::string> wanted,
                                   std::vector<BlockExport*> exports);
  void Settle(Part* part, PartOutcome outcome);
  absl::Status Collect(int number, Deadline deadline);

  absl::Status StartPart(int number, const Factories& factories);
  absl::Status DoPrepare(Update* update, const Factories& factories,
                         int64_t drain_limit_ns);
  // Null once it was given up; what the task refers to is then kept for ever.
  template <typename T>
  std::optional<T> Await(int part, Task<T> task, const Factories& factories);
  absl::Status OpenNodes(const Update& update, const Factories& factories);
  absl::Status MakeExports(Update* update, const Factories& factories);
  absl::Status TakeParts(Update* update);
  void SetTargets(Update* update) const;
  void Undo(Update* update);

  std::map<int, Part> parts_;
  std::map<int, LiveExport> exports_;
  int next_export_ = 0;
  LivePlan plan_;
  std::vector<std::unique_ptr<Update>> given_up_;
};

// A change on its way.
class LiveGraph::Update {
 public:
  // Numbers in exports(), which has those that are added as well as those that
  // are removed, until Abort() or Finish().
  const std::vector<int>& added() const { return added_; }
  const std::vector<int>& removed() const { return removed_; }

 private:
  friend class LiveGraph;

  // One part of the graph; its home's.
  struct Work {
    Graph* graph = nullptr;
    std::unique_ptr<Transaction> transaction;
    bool prepared = false;
  };
  // An export of it, in the form it is to have.
  struct Target {
    proto::Export item;
    PermissionSet rights;
  };

  static Task<absl::Status> Fill(const Update* update, int part, Work* work,
                                 const std::map<int, LiveExport>* exports,
                                 const Factories* factories);
  static Task<absl::Status> PrepareWork(Work* work, int64_t drain_limit_ns);
  static Task<void> CommitWork(const Update* update, int part, Work* work,
                               const std::map<int, LiveExport>* exports,
                               const Factories* factories);
  static Task<void> AbortWork(Work* work);

  Change change_;
  Factories factories_;  // what is given up may still use them
  std::vector<int> new_parts_;
  std::map<int, Work> work_;       // by part, of those that it touches
  std::map<int, Target> targets_;  // by export
  std::vector<int> added_;
  std::vector<int> removed_;
};

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_APPLY_H_
