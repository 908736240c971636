// Flush (engine.md, 2.7): the driver's caches to the operating system, then to
// the disk, then every child this node may have written through.
//
// One flush runs per node. Those that arrive meanwhile wait for the next one,
// which began after they arrived and so covers them all, success and failure
// alike: N concurrent flushes cost one or two real ones.

#include <algorithm>

#include "graph/node.h"

namespace bgfs {

// One round over a node.
class Flusher {
 public:
  static Task<IoStatus> Flush(Node& node) {
    auto hold = node.in_flight_.Hold();
    // The first round that begins from now on.
    const int64_t covering = node.flushes_started_ + 1;
    while (node.flush_running_ && node.flushes_done_ < covering) {
      co_await node.flush_waiters_.Wait();
    }
    if (node.flushes_done_ >= covering) {
      co_return node.failed_flush_ >= covering ? node.flush_error_ : IoStatus();
    }
    node.flush_running_ = true;
    ++node.flushes_started_;
    const IoStatus status = co_await RunRound(node);
    ++node.flushes_done_;
    if (!status.ok()) {
      node.failed_flush_ = node.flushes_done_;
      node.flush_error_ = status;
    }
    node.flush_running_ = false;
    node.flush_waiters_.WakeAll();
    co_return status;
  }

 private:
  static Task<IoStatus> RunRound(Node& node) {
    const int64_t generation = node.write_generation_;
    BGFS_CO_TRY(co_await node.driver_->FlushToOs());
    if (node.flushed_generation_ != generation && !node.options_.no_flush) {
      BGFS_CO_TRY(co_await node.driver_->FlushToDisk());
      node.flushed_generation_ = generation;
    }
    for (const auto& child : node.children_) {
      if ((child->permissions().used & (kWrite | kWriteUnchanged)) == 0) {
        continue;
      }
      BGFS_CO_TRY(co_await Flush(child->node()));
    }
    co_return IoStatus();
  }
};

Task<IoStatus> Child::Flush() { return Flusher::Flush(*node_); }

Task<IoStatus> FlushNode(Node& node) { return Flusher::Flush(node); }

}  // namespace bgfs
