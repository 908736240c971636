// From a plan to live graphs: one Graph and one home loop for each connected
// part, its nodes opened bottom-up, its exports made. Drivers, loops and front
// ends come from factories, so that this floor knows none of them.
//
// Nothing is shown to anybody yet: mounting is the front end's.

#ifndef BGFS_CONFIG_APPLY_H_
#define BGFS_CONFIG_APPLY_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/pending.h"
#include "config/plan.h"
#include "graph/async/loop.h"
#include "graph/export.h"
#include "graph/graph.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

struct Factories {
  // A new home loop; `name` is its thread's.
  std::function<absl::StatusOr<std::unique_ptr<Loop>>(const std::string& name)>
      start_loop;

  // Opens one node of a plan in a graph, at its home. The step outlives the
  // task.
  std::function<Task<absl::StatusOr<Node*>>(Graph*, const OpenNode&)> open_node;

  // Makes one export, at the home of its backend.
  std::function<absl::StatusOr<std::unique_ptr<BlockExport>>(
      const proto::Export&, std::unique_ptr<Backend>)>
      make_export;
};

// The rights an export takes (engine.md, 4). `written_beside`: another export
// of the same node is writable.
PermissionSet ExportPermissions(const proto::Export& item, bool written_beside);

// One live export.
struct LiveExport {
  int part = 0;
  proto::Export item;
  // Null once it is closed. Used at the home of its part.
  BlockExport* block_export = nullptr;
  // How it ended: whether what was written is durable.
  absl::Status outcome;
};

// Used by one thread that may block, at a time; never a loop's.
class LiveGraph {
 public:
  // Opens everything, or nothing: what a failing step leaves is closed again.
  // The error is that step's.
  static absl::StatusOr<std::unique_ptr<LiveGraph>> Apply(
      const Plan& plan, const Factories& factories);
  LiveGraph(const LiveGraph&) = delete;
  LiveGraph& operator=(const LiveGraph&) = delete;
  // Everything must be closed. One with a stuck part is never destroyed: the
  // kernel may own its buffers until the process ends.
  ~LiveGraph();

  const std::vector<LiveExport>& exports() const { return exports_; }
  Loop* home(int part) const { return parts_[part].loop.get(); }

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
    std::vector<size_t> exports;   // indexes
    std::optional<Pending<PartOutcome>> closing;
  };

  LiveGraph() = default;

  static Task<PartOutcome> EndPart(Graph* graph,
                                   std::vector<BlockExport*> exports);
  void Settle(Part* part, PartOutcome outcome);

  absl::Status StartPart(int number, const Factories& factories);
  absl::Status Open(const OpenNode& step, const Factories& factories);
  absl::Status Add(const AddExport& step, bool written_beside,
                   const Factories& factories);

  std::vector<Part> parts_;
  ExportTable table_;
  std::vector<LiveExport> exports_;
};

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_APPLY_H_
