// Flush (engine.md, 2.7): the driver's caches to the operating system, then to
// the disk, then every child this node may have written through; then the
// driver hears that all of it is durable.
//
// One flush runs per node. Those that arrive meanwhile wait for the next one,
// which began after they arrived and so covers them all, success and failure
// alike: N concurrent flushes cost one or two real ones.

#include <memory>
#include <utility>

#include "graph/graph.h"
#include "graph/io.h"
#include "graph/node.h"

namespace bgfs {

// One round over a node.
class Flusher {
 public:
  static Task<IoStatus> Flush(Node& node) {
    auto hold = node.in_flight_.Hold();
    std::shared_ptr<FlushRound> round;
    if (node.flush_running_) {
      if (node.next_flush_ == nullptr) {
        node.next_flush_ = std::make_shared<FlushRound>();
      }
      round = node.next_flush_;
      while (node.flush_running_ && !round->done) {
        co_await node.flush_waiters_.Wait();
      }
      if (round->done) {
        ++node.statistics_.flushes_coalesced;
        node.statistics_.flushes.Count(0, round->status);
        co_return round->status;
      }
    }
    // This one leads: for itself and for all that wait for the next round.
    round = std::exchange(node.next_flush_, nullptr);
    node.flush_running_ = true;
    const IoStatus status = co_await RunRound(node);
    node.flush_running_ = false;
    if (round != nullptr) *round = {true, status};
    node.flush_waiters_.WakeAll();
    node.statistics_.flushes.Count(0, status);
    co_return status;
  }

 private:
  static void TellIfNew(Node& node, IoStatus own) {
    const bool was_failing = std::exchange(node.flush_failing_, !own.ok());
    GraphObserver* const observer = node.graph().observer();
    if (own.ok() || was_failing || observer == nullptr) return;
    observer->OnFlushFailed(node, own);
  }

  static Task<IoStatus> RunRound(Node& node) {
    // Whether there is something new is not known here.
    if (node.bypassed_) NodeIo::Wrote(node);
    const int64_t generation = node.write_generation_;
    IoStatus own = co_await node.driver_->FlushToOs();
    if (own.ok() && node.flushed_generation_ != generation &&
        !node.options_.no_flush) {
      own = co_await node.driver_->FlushToDisk();
      if (own.ok()) node.flushed_generation_ = generation;
    }
    TellIfNew(node, own);
    BGFS_CO_TRY(own);
    for (const auto& child : node.children_) {
      if ((child->permissions().used & (kWrite | kWriteUnchanged)) == 0) {
        continue;
      }
      BGFS_CO_TRY(co_await Flush(child->node()));
    }
    co_await node.driver_->AfterFlush();
    co_return IoStatus();
  }
};

Task<IoStatus> Child::Flush() { return Flusher::Flush(*node_); }

Task<IoStatus> FlushNode(Node& node) { return Flusher::Flush(node); }

}  // namespace bgfs
