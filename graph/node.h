// Node: one opened image layer or filter. Child: an edge from a node (or from
// a backend, the root of a user) down to a node, with a role and rights.
//
//   Backend ──root──▶ node "top" ──file────▶ node "#block1"
//                                 ──backing─▶ node "base" ──file──▶ ...
//
// A connected part of the graph belongs to a Graph (graph.h), which owns its
// nodes and names its home loop; everything here is used on that loop only.
//
// All I/O of drivers and backends goes through the methods of Child: they are
// the one choke point that checks, pads, tracks, waits and splits (io.cc,
// flush.cc). They never block on a drain, so that what is under way can finish.

#ifndef BGFS_GRAPH_NODE_H_
#define BGFS_GRAPH_NODE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/async/file.h"
#include "graph/async/io_status.h"
#include "graph/async/io_view.h"
#include "graph/async/sync.h"
#include "graph/async/task.h"
#include "graph/dirty_bitmap.h"
#include "graph/driver.h"
#include "graph/request.h"
#include "graph/statistics.h"
#include "graph/status_cache.h"
#include "graph/types.h"
#include "graph/write_threshold.h"

namespace bgfs {

class Backend;
class Graph;

enum class ChildRole : uint8_t {
  kFile,     // where a format keeps its data and metadata
  kBacking,  // the layer below an overlay: read only, may be shorter
  kFilter,   // what a filter passes its requests on to
  kRoot,     // a backend's
};

class Child {
 public:
  // Use Node::AttachChild or Backend::Create.
  Child(std::string name, ChildRole role, Node* parent, std::string user,
        Node* node)
      : name_(std::move(name)),
        role_(role),
        parent_(parent),
        user_(std::move(user)),
        node_(node) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  const std::string& name() const { return name_; }
  ChildRole role() const { return role_; }
  Node* parent() const { return parent_; }  // null at a root
  Node& node() const { return *node_; }
  const PermissionSet& permissions() const { return permissions_; }
  // Until thawed it leads where it leads, and stays; every change of the graph
  // that would move it is refused and tells `why` (engine.md, 5). Counted; the
  // last reason is told.
  void Freeze(std::string why);
  void Thaw();
  bool frozen() const { return frozen_ > 0; }
  const std::string& frozen_by() const { return frozen_by_; }
  // For messages: `backing of top`, `export vm1`.
  std::string Describe() const;
  int64_t size() const;  // bytes, of the node

  // I/O on the node (engine.md, 2). `parent` is the request whose driver
  // issues this, null at a root. The range is checked against overflow only: a
  // read past the end of the node gives zeros there. Buffers are the caller's
  // until the task ends.
  Task<IoStatus> Read(Request* parent, int64_t offset, IoView data,
                      RequestFlags flags = 0);
  Task<IoStatus> Write(Request* parent, int64_t offset, IoView data,
                       RequestFlags flags = 0);
  Task<IoStatus> Zero(Request* parent, int64_t offset, int64_t bytes,
                      RequestFlags flags = 0);
  Task<IoStatus> Discard(Request* parent, int64_t offset, int64_t bytes);
  Task<IoStatus> Reserve(Request* parent, int64_t offset, int64_t bytes);
  // Offloads a copy of [offset, offset + bytes) of this node to `target`, or
  // else ENOTSUP: the caller reads and writes all of it. So it is too where the
  // write would have to wait, which might be for a copy in the other direction;
  // for one that grows the target; and between parts.
  Task<IoStatus> CopyRange(Request* parent, int64_t offset, int64_t bytes,
                           CopyTarget target);
  // Its second half, for drivers.
  Task<IoStatus> CopyRangeTo(Request* parent, int64_t offset, int64_t bytes,
                             CopySource source, RequestFlags flags);
  // `exact`: else a node that is larger already stays so.
  Task<IoStatus> Truncate(Request* parent, int64_t size_bytes, bool exact,
                          Preallocation preallocation);
  Task<IoStatus> Flush();
  // Looks at the file of a node whose driver has HostBytes: the node has its
  // size then. EFBIG where that is more than a node's may be.
  Task<IoResult<FileInfo>> Look(Request* parent);
  // Of this layer; AllocatedAbove() and StatusOfChain() (status.h) walk down.
  // A range past the end gives kEof | kZero.
  Task<IoResult<BlockStatus>> Status(Request* parent, int64_t offset,
                                     int64_t bytes, bool precise);

 private:
  friend class PermissionUpdate;
  friend class Node;
  friend class Transaction;

  const std::string name_;
  const ChildRole role_;
  Node* const parent_;
  const std::string user_;  // of a root: "export vm1"
  Node* node_;
  PermissionSet permissions_{0, kAllPermissions};
  PermissionSet pending_;  // while a PermissionUpdate is under way
  int frozen_ = 0;
  std::string frozen_by_;
};

struct NodeOptions {
  std::string name;  // unique; generated when empty
  bool read_only = false;
  bool unmap = false;     // discard: UNMAP
  bool no_flush = false;  // cache.no_flush
  DetectZeroes detect_zeroes = DetectZeroes::kOff;

  // Whether two nodes differ in nothing but their names.
  bool Like(const NodeOptions& other) const {
    return read_only == other.read_only && unmap == other.unmap &&
           no_flush == other.no_flush && detect_zeroes == other.detect_zeroes;
  }
};

// How a round of flushes ended, for those that waited for it.
struct FlushRound {
  bool done = false;
  IoStatus status;
};

class Node {
 public:
  static constexpr size_t kMaxNameBytes = 31;

  Node(Graph* graph, NodeOptions options, std::unique_ptr<Driver> driver);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  const std::string& name() const { return options_.name; }
  const NodeOptions& options() const { return options_; }
  bool read_only() const { return options_.read_only; }
  // Whether clients may write to it past the engine (Backend::LetBypass()).
  bool bypassed() const { return bypassed_; }
  Driver& driver() const { return *driver_; }
  Graph& graph() const { return *graph_; }
  Loop& home() const;

  // Bytes. Set by the driver when it opened, then kept by the engine.
  int64_t size() const { return size_; }
  // A new size: parents and exports learn it. Also for drivers whose child was
  // resized.
  void SetSize(int64_t size_bytes);

  const Limits& limits() const { return limits_; }
  // Recomputes the limits of this node from its children and its driver.
  void RefreshLimits();

  const std::vector<std::unique_ptr<Child>>& children() const {
    return children_;
  }
  // Null when there is none of that name.
  Child* child(absl::string_view name) const;
  Child* backing() const { return child("backing"); }
  const std::vector<Child*>& parents() const { return parents_; }

  // Adds an edge to `node`, and takes what the driver needs there; fails,
  // naming both sides, where another user does not share it.
  absl::StatusOr<Child*> AttachChild(std::string name, ChildRole role,
                                     Node* node);

  RequestTracker& requests() { return requests_; }
  InFlight& in_flight() { return in_flight_; }
  int64_t write_generation() const { return write_generation_; }

  // The books, kept before a request is answered, also when it failed half-way.
  const NodeStatistics& statistics() const { return statistics_; }
  // Where the furthest write or zero request so far ended, bytes.
  int64_t highest_write() const { return highest_write_; }
  WriteThreshold& write_threshold() { return write_threshold_; }
  // Arms it to tell the graph's observer; 0 disarms it.
  void SetWriteThreshold(int64_t threshold_bytes);
  DirtyBitmaps& dirty_bitmaps() { return dirty_bitmaps_; }

 private:
  friend class Backend;
  friend class Child;
  friend class Drain;
  friend class Flusher;
  friend class Graph;
  friend class NodeIo;
  friend class Transaction;

  // An edge is one of its parent's children and of its node's parents.
  static void Link(Child* edge);
  static void Unlink(Child* edge);
  // Is this one's from now on; gives the one before, which is nobody's.
  std::unique_ptr<Driver> SwapDriver(std::unique_ptr<Driver> driver);

  Graph* const graph_;
  NodeOptions options_;
  std::unique_ptr<Driver> driver_;
  int64_t size_ = 0;
  // Past size_ the driver may hold what a write that failed has left.
  bool tail_dirty_ = false;
  StatusCache status_cache_;
  NodeStatistics statistics_;
  int64_t highest_write_ = 0;
  WriteThreshold write_threshold_;
  DirtyBitmaps dirty_bitmaps_;
  Limits limits_;
  std::vector<std::unique_ptr<Child>> children_;
  std::vector<Child*> parents_;     // edges that lead here
  std::vector<Backend*> backends_;  // of the roots among them

  RequestTracker requests_;
  InFlight in_flight_;
  int drains_ = 0;  // that are active on this node
  bool bypassed_ = false;

  // A node is born with something to flush: its predecessor may have died.
  int64_t write_generation_ = 1;
  int64_t flushed_generation_ = 0;
  bool flush_running_ = false;
  bool flush_failing_ = false;              // the last one has, which was told
  std::shared_ptr<FlushRound> next_flush_;  // null while nobody waits for it
  WaitQueue flush_waiters_;
};

// Flushes a node without an edge to it: for whoever closes it.
Task<IoStatus> FlushNode(Node& node);

}  // namespace bgfs

#endif  // BGFS_GRAPH_NODE_H_
