// A connection: one mount, served on one loop. It agrees with the kernel on
// what it speaks, and leads each request to the inode it names.
#ifndef BGFS_FUSE_CONNECTION_H_
#define BGFS_FUSE_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "fuse/inode.h"
#include "fuse/negotiate.h"
#include "fuse/transport.h"
#include "graph/async/sync.h"

namespace bgfs::fuse {

// Used on the transport's loop.
class Connection final : private Transport::Handler {
 public:
  // `init_flags`: what INIT may agree on beside what the transport carries.
  Connection(std::unique_ptr<Transport> transport, KernelMask mask,
             uint64_t init_flags = 0)
      : transport_(std::move(transport)),
        mask_(mask),
        init_flags_(init_flags) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Inodes are the caller's and outlive the connection or are removed before;
  // nothing may be in flight on one that is removed.
  void AddInode(Inode* inode);
  void RemoveInode(Inode* inode);

  // `on_end` is called when the kernel has ended the connection. Must not wait.
  void Start(absl::AnyInvocable<void()> on_end);
  // Returns once INIT was answered and transport().name() stays, or once the
  // kernel has ended the connection. Not after Stop().
  Task<void> WaitSettled();
  // From now on every request gets `error`, a positive errno.
  void Refuse(int error) { refusal_ = error; }
  // Returns when the connection is closed; requests under way end first.
  Task<void> Stop() { return transport_->Stop(); }

  // Valid once anything was opened.
  const Agreement& agreement() const { return agreement_; }
  InFlight& in_flight() { return in_flight_; }
  Transport& transport() { return *transport_; }

 private:
  void OnRequest(Exchange* exchange) override;
  void OnEnd() override;
  void OnInit(Exchange* exchange);
  bool ServeHere(Exchange* exchange);
  Task<void> ServeAt(Inode* inode, Exchange* exchange);

  const std::unique_ptr<Transport> transport_;
  const KernelMask mask_;
  const uint64_t init_flags_;
  Agreement agreement_;
  int refusal_ = 0;
  std::vector<Inode*> inodes_;  // by node id - 1
  InFlight in_flight_;
  Event settled_;  // INIT was answered, or will not come
  absl::AnyInvocable<void()> on_end_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_CONNECTION_H_
