// Driver: the code behind a node. A driver implements the few virtuals below
// and nothing else; the engine (io.h) hands it only requests that are checked,
// aligned to its limits, permitted, split and tracked, and that run while
// nothing that conflicts with them runs. It reaches other nodes only through
// its children (node().children(), Child::Read and so on) and passes on the
// request it was given as the parent of what it issues.
//
// Everything runs on the home loop of the node, so a driver is written as if
// single-threaded: no locks, no atomics.
//
// A mapping that a driver looked up under a request it was handed stays true
// until that request ends: whatever would change it conflicts with it
// (house.md, "One mechanism for concurrency").

#ifndef BGFS_GRAPH_DRIVER_H_
#define BGFS_GRAPH_DRIVER_H_

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/async/io_status.h"
#include "graph/async/io_view.h"
#include "graph/async/task.h"
#include "graph/types.h"

namespace bgfs {

class Child;
class HostBytes;
class Node;
class Request;
struct DriverStatistics;

class Driver {
 public:
  virtual ~Driver() = default;

  // As in the configuration: "raw", "qcow2".
  virtual absl::string_view format_name() const = 0;

  // Once, with the children attached, before any request: sets the node's size
  // and makes it usable. Before it, only ChildPermissions() and what concerns a
  // drain are called.
  virtual Task<absl::Status> Open();
  // Before Open(): this one is to replace `predecessor`, a driver of the same
  // node, which is inactive and idle, and which is closed once this one is in
  // use, or is used again if this one is given up first.
  virtual void Succeed(Driver& predecessor) { (void)predecessor; }
  // Nothing is in flight, and all was flushed: puts on the disk what Close()
  // would, so that another driver can open it and Close() writes nothing. The
  // driver may be used again.
  virtual Task<IoStatus> Inactivate();

  // Reads data.size() bytes. The range lies inside the node, but for the last
  // partial block of request_alignment, of which only the part inside counts.
  virtual Task<IoStatus> Read(Request& request, int64_t offset,
                              IoView data) = 0;

  // Writes data.size() bytes; also on behalf of a read with kCopyOnRead, whole
  // units of copy_alignment then. A range past the end extends the node; the
  // engine has checked the right to, and there is no gap. Its end is aligned
  // or the (new) end of the node.
  virtual Task<IoStatus> Write(Request& request, int64_t offset, IoView data);

  // Whether Write() and Zero() heed kFua in request.flags(). The default says
  // no: the engine flushes the node after such a write.
  virtual bool has_fua() const { return false; }

  // Makes the range read as zeros. ENOTSUP: the engine writes zeros. flags:
  // kMayUnmap, present only where the node's discard option allows it.
  virtual Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                              RequestFlags flags);

  // May forget the range, which may be unaligned. ENOTSUP counts as success.
  virtual Task<IoStatus> Discard(Request& request, int64_t offset,
                                 int64_t bytes);

  // Reserves space for the range and changes no byte (fallocate(2), mode 0,
  // inside the node). ENOTSUP where the layers below cannot.
  virtual Task<IoStatus> Reserve(Request& request, int64_t offset,
                                 int64_t bytes);

  // Sets the size. When it grows, what is added reads as zeros.
  virtual Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                                  Preallocation preallocation);

  // The driver's own caches to its children or the operating system; then, for
  // a protocol, the operating system's to the disk. The engine flushes the
  // children itself, afterwards (engine.md, 2.7).
  virtual Task<IoStatus> FlushToOs();
  virtual Task<IoStatus> FlushToDisk();
  // The children were flushed, after FlushToOs() had ended: what it handed
  // down is durable. Not called when any of it failed.
  virtual Task<void> AfterFlush();

  // Status of a range inside the node, from its start as far as it holds, which
  // may be further than asked (the engine cuts it, also to whole blocks of
  // request_alignment).
  // `precise`: zeros are told from data, though it may take I/O. The default
  // says data that is allocated here. The request may still be waiting, as in
  // ChangeWindow(), when it is a read with kCopyOnRead.
  virtual Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                             int64_t bytes, bool precise);

  // The part of the node's range whose mapping this request would change
  // (engine.md, 2.2), a fallback's included; empty when none. May take I/O.
  // The default says none. Not asked for reads: of those with kCopyOnRead the
  // engine asks Status() what is not allocated.
  virtual Task<IoResult<Range>> ChangeWindow(const Request& request);

  // Copy range, without the data passing through here (engine.md, 2.10). A copy
  // goes down its source first: a filter calls CopyRange() on its child, the
  // leaf that has the bytes calls target.edge->CopyRangeTo(). Then it goes down
  // the target in the same way, until the leaf there sees whether it is of one
  // kind with source.leaf. Both ranges lie inside their nodes and are aligned.
  // ENOTSUP: the data is read and written.
  virtual Task<IoStatus> CopyRangeFrom(Request& request, int64_t offset,
                                       int64_t bytes, CopyTarget target);
  virtual Task<IoStatus> CopyRangeTo(Request& request, int64_t offset,
                                     int64_t bytes, CopySource source);

  // Bytes that this node's own layer takes on the host's disk (its file's,
  // for a format), without backing layers.
  virtual Task<IoResult<int64_t>> AllocatedBytes() = 0;

  // Adds what only the driver knows (statistics.h), if it has anything.
  virtual void AddStatistics(DriverStatistics* statistics) const {
    (void)statistics;
  }

  // The ability of host_bytes.h, or null.
  virtual HostBytes* host_bytes() { return nullptr; }

  // Sets the driver's own limits; transfer and memory limits have been merged
  // from the children before.
  virtual void RefreshLimits(Limits* limits) { (void)limits; }

  // What this node needs on `child`, when its own users hold `users`
  // together (used: of any of them; shared: by all of them).
  virtual PermissionSet ChildPermissions(const Child& child,
                                         const PermissionSet& users) const;

  // For protocols: takes or gives up the rights at the operating system
  // (image locks). Prepare may fail and then changes nothing; exactly one of
  // Commit and Abort follows a Prepare that did not. None of them waits.
  virtual absl::Status PreparePermissions(const PermissionSet& users);
  virtual void CommitPermissions() {}
  virtual void AbortPermissions() {}

  // A child was resized from below (or by this node's own truncate).
  virtual void OnChildResized(Child& child) { (void)child; }

  // A drain begins or ends: internal activity stops, and what holds requests
  // back on purpose lets them go. Nested calls are paired.
  virtual void OnDrainBegin() {}
  virtual void OnDrainEnd() {}

  // Gives up what the driver holds. Nothing is in flight, everything is
  // flushed or was reported as not; the children are still open.
  virtual Task<void> Close();

  Node& node() const { return *node_; }

 private:
  friend class Node;
  Node* node_ = nullptr;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_DRIVER_H_
