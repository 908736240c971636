// The transport over io_uring (Linux 6.14, fs/fuse/dev_uring.c): the queues of
// all CPUs on the ring of one loop, where the file I/O of the requests is too.
//
//   kernel ──completion──▶ entry: header | payload ──▶ handler
//   kernel ◀──commit and fetch── the same entry ◀───── reply
//
// An entry is memory for one request and its reply. A reply hands it back and
// asks for the next request in one, and goes out with whatever else the turn of
// the loop has started: one system call for many requests.
//
// The kernel still says some things on /dev/fuse (INIT, FORGET, INTERRUPT), and
// everything when registering the entries fails; so a DevTransport serves
// beside it.
//
// More entries in a queue than there are background requests in all: a stat or
// an umount still comes through while all of the asynchronous I/O is parked.
// Memory that an entry has touched is given back when the connection is idle,
// or soon beyond the connection's share (SlotPool::MaxKeptBytes()).
#ifndef BGFS_FUSE_URING_TRANSPORT_H_
#define BGFS_FUSE_URING_TRANSPORT_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "fuse/dev_transport.h"
#include "fuse/transport.h"
#include "fuse/unique_fd.h"
#include "graph/async/idle_timer.h"
#include "graph/async/sync.h"
#include "graph/async/uring_loop.h"

namespace bgfs::fuse {

class UringTransport final : public Transport {
 public:
  static constexpr uint16_t kMaxBackground = 32;
  static constexpr size_t kEntriesPerQueue = kMaxBackground + 2;
  static constexpr uint32_t kPayloadBytes = SlotPool::kPayloadBytes;

  // Other than these only in tests.
  struct Options {
    size_t queues = PossibleCpus();  // one for each possible CPU
    SlotPool::Map map = SlotPool::MapMemory;
    // What the kernel is told that an entry of the last queue has.
    uint32_t last_queue_bytes = kPayloadBytes;
  };

  // ResourceExhausted where there is no memory for the entries,
  // FailedPrecondition where there is no way to take them back
  // (Device::OpenAbort). `device` is non-blocking, `loop` outlives the
  // transport.
  static absl::StatusOr<std::unique_ptr<UringTransport>> Create(
      UringLoop* loop, Device device, const Options& options);
  // Stop() has returned, or Start() was never called.
  ~UringTransport() override;

  // CPUs that the kernel has queues for; 0 if it does not say.
  static size_t PossibleCpus();
  static size_t MemoryBytes(size_t queues);

  Carries carries() const override;
  void Start(Handler* handler) override;
  void OnAgreed(const Agreement& agreement) override;
  Task<void> Settle() override;
  absl::string_view name() const override {
    return ring_ ? kUringName : dev_.name();
  }
  Task<void> Stop() override;
  Task<IoStatus> Invalidate(uint64_t node_id, bool data) override {
    return dev_.Invalidate(node_id, data);
  }
  Task<IoStatus> InvalidateEntry(uint64_t parent_id,
                                 absl::string_view name) override {
    return dev_.InvalidateEntry(parent_id, name);
  }

  size_t kept_bytes() const { return kept_bytes_; }

 private:
  struct Entry;
  struct EntryAwaiter;

  UringTransport(UringLoop* loop, Device device, UniqueFd abort,
                 const Options& options, void* memory);

  void Finish(Exchange* exchange, int error, uint32_t bytes) override;
  void Drop(Exchange* exchange) override;

  Task<void> Serve(Entry* entry);
  void Submit(Entry* entry, uint32_t command, uint64_t commit_id);
  void Accept(Entry* entry);
  void GiveBack(Entry* entry);
  void Trim();

  UringLoop* const loop_;
  Device device_;
  const UniqueFd abort_;
  DevTransport dev_;
  const size_t queues_;
  void* const memory_;
  std::unique_ptr<Entry[]> entries_;
  Handler* handler_ = nullptr;
  bool stopping_ = false;
  InFlight accepted_;  // requests that are not answered
  InFlight tasks_;     // Serve() of each entry
  IdleTimer idle_;
  bool ring_ = false;  // agreed on, and no entry was refused
  size_t kept_bytes_ = 0;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_URING_TRANSPORT_H_
