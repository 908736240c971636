// Drain: holds a part of the graph still (engine.md, 3). Begin() closes the
// gates of all backends above the nodes given, tells the drivers, and returns
// when nothing is in flight on any node between them; edges inside the graph
// never block, so what is under way can finish. A backend made while the drain
// is active is born with its gate closed; one may also go.
//
//   Drain drain({node});          // the subtree below node, and all above it
//   co_await drain.Begin();
//   ...                           // I/O along edges is allowed, not via gates
//   drain.End();

#ifndef BGFS_GRAPH_DRAIN_H_
#define BGFS_GRAPH_DRAIN_H_

#include <vector>

#include "graph/async/sync.h"
#include "graph/async/task.h"
#include "graph/backend.h"
#include "graph/node.h"

namespace bgfs {

class Drain {
 public:
  // The nodes, everything below them, and everything above any of those.
  explicit Drain(const std::vector<Node*>& nodes);
  Drain(const Drain&) = delete;
  Drain& operator=(const Drain&) = delete;
  // Must not be active.
  ~Drain();

  Task<void> Begin();
  // As Begin(), for at most so long (0: no limit). False: something is still in
  // flight, and nothing is drained.
  Task<bool> BeginWithin(int64_t limit_ns);
  void End();

  const std::vector<Node*>& nodes() const { return nodes_; }

 private:
  void CloseGates();
  // Something that is in flight, or null.
  InFlight* FindBusy() const;
  void OnLimit();

  std::vector<Node*> nodes_;
  bool active_ = false;
  bool late_ = false;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_DRAIN_H_
