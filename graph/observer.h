// GraphObserver: who wants to know what happens in a graph, when it does.

#ifndef BGFS_GRAPH_OBSERVER_H_
#define BGFS_GRAPH_OBSERVER_H_

#include "graph/async/io_status.h"
#include "graph/write_threshold.h"

namespace bgfs {

class Node;

// Called at the home of the node, before the request that met it is answered;
// must not wait. One may be for graphs of several homes.
class GraphObserver {
 public:
  virtual ~GraphObserver() = default;
  // Of one that was set by Node::SetWriteThreshold().
  virtual void OnWriteThreshold(const Node& node,
                                WriteThreshold::Event event) = 0;
  // The node's own flush (its caches, its disk) has failed, and the one before
  // had not.
  virtual void OnFlushFailed(const Node& node, IoStatus status) = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_OBSERVER_H_
