// Backend: the root through which a user of the graph (an export, a job) does
// I/O and holds rights. Its gate is what a drain closes: requests that come
// meanwhile are parked, those under way finish.
//
// I/O may be called from any loop and goes home by itself; on the home loop it
// is a plain call. The rest is used at home.

#ifndef BGFS_GRAPH_BACKEND_H_
#define BGFS_GRAPH_BACKEND_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "graph/async/sync.h"
#include "graph/node.h"
#include "graph/statistics.h"

namespace bgfs {

class Backend {
 public:
  // `user` names it in messages: "export vm1". Fails, naming both sides, where
  // another user of the graph does not share a right it needs or uses one that
  // it does not share.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(
      std::string user, Node* node, PermissionSet permissions);
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  // Gives up its rights. Nothing may be in flight or parked.
  ~Backend();

  Node& node() const { return root_->node(); }
  Graph& graph() const { return node().graph(); }
  Loop& home() const { return node().home(); }
  Child& root() const { return *root_; }
  int64_t size() const { return root_->size(); }
  bool writable() const { return (root_->permissions().used & kWrite) != 0; }
  bool resizable() const { return (root_->permissions().used & kResize) != 0; }

  // I/O (engine.md, 2). Ranges that are negative, overflow or reach past the
  // end get EIO (a write or zero past the end extends the node where the
  // backend has the right to resize); writes without the right to, EPERM.
  Task<IoStatus> Read(int64_t offset, IoView data, RequestFlags flags = 0);
  Task<IoStatus> Write(int64_t offset, IoView data, RequestFlags flags = 0);
  Task<IoStatus> Zero(int64_t offset, int64_t bytes, RequestFlags flags = 0);
  Task<IoStatus> Discard(int64_t offset, int64_t bytes);
  Task<IoStatus> Reserve(int64_t offset, int64_t bytes);
  Task<IoStatus> Truncate(int64_t size_bytes, bool exact,
                          Preallocation preallocation = Preallocation::kOff);
  // Copies inside the host where it can, else through memory. EINVAL for ranges
  // of one node that overlap. May have copied a part when it fails.
  Task<IoStatus> CopyRange(int64_t offset, Backend& to, int64_t to_offset,
                           int64_t bytes, RequestFlags flags = 0);
  Task<IoStatus> Flush();
  // Through the whole chain: kData or kZero as a reader would see it.
  Task<IoResult<BlockStatus>> Status(int64_t offset, int64_t bytes);
  // Host disk bytes of all layers of the chain.
  Task<IoResult<int64_t>> AllocatedBytes();

  // Makes each write, zero request and truncate durable before it ends (kFua).
  // At home, before I/O.
  void SetWritethrough(bool writethrough) { writethrough_ = writethrough; }
  bool writethrough() const { return writethrough_; }

  // Clients write to the node past the engine from now on (HostBytes): each
  // flush goes to the disk, and Look() tells what became of the size. At home;
  // for a node whose driver has that ability, and that nobody else uses.
  void LetBypass();
  // Gives the node the size that its file has now, and tells of the file. Where
  // the driver has HostBytes.
  Task<IoResult<FileInfo>> Look();

  // Of the requests above. At home.
  const BackendStatistics& statistics() const { return statistics_; }
  // When it was made (Loop::NowNs()).
  int64_t made_ns() const { return made_ns_; }

  // Called at home whenever the node's size has changed. Must not wait.
  void SetOnResize(absl::AnyInvocable<void()> on_resize) {
    on_resize_ = std::move(on_resize);
  }

  // The gate. Counted: a closed gate opens with as many calls of Open().
  void CloseGate() { ++gate_closed_; }
  void OpenGate();
  bool gate_closed() const { return gate_closed_ > 0; }
  // What is parked at the gate, and comes while it is closed, fails with
  // `error`, but for flushes. For a backend that is on its way out.
  void Refuse(int error);
  // Requests let in and not ended; those parked at the gate are not.
  InFlight& in_flight() { return in_flight_; }

 private:
  friend class Node;
  friend class Transaction;

  explicit Backend(std::unique_ptr<Child> root)
      : root_(std::move(root)), made_ns_(home().NowNs()) {}

  // A request that is under way counts here and, for drains, on the node.
  struct [[nodiscard]] Entered {
    InFlight::Holder here;
    InFlight::Holder on_node;
  };
  bool MayWrite(RequestFlags flags) const {
    return (root_->permissions().used & WriteRights(flags)) != 0;
  }
  Entered Enter() {
    Entered entered = {in_flight_.Hold(), node().in_flight().Hold()};
    statistics_.max_in_flight =
        std::max(statistics_.max_in_flight, in_flight_.count());
    return entered;
  }
  Task<IoStatus> PassGate();
  Task<void> WaitAtGate(bool refusable);
  // Counts a request that began then, and gives its outcome.
  IoStatus Ended(BackendStatistics::Timed* kind, int64_t begun_ns,
                 int64_t bytes, IoStatus status);
  Task<IoStatus> CopyEntered(int64_t offset, Backend& to, int64_t to_offset,
                             int64_t bytes, RequestFlags flags);

  const std::unique_ptr<Child> root_;
  const int64_t made_ns_;
  BackendStatistics statistics_;
  bool writethrough_ = false;
  int gate_closed_ = 0;
  int refusal_ = 0;
  WaitQueue parked_;
  InFlight in_flight_;
  absl::AnyInvocable<void()> on_resize_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_BACKEND_H_
