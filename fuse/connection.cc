#include "fuse/connection.h"

#include <cerrno>

#include "graph/async/check.h"

namespace bgfs::fuse {

void Connection::AddInode(Inode* inode) {
  const size_t index = inode->node_id() - kRootId;
  if (inodes_.size() <= index) inodes_.resize(index + 1, nullptr);
  BGFS_CHECK(inodes_[index] == nullptr);
  inodes_[index] = inode;
}

void Connection::RemoveInode(Inode* inode) {
  inodes_[inode->node_id() - kRootId] = nullptr;
}

void Connection::Start(absl::AnyInvocable<void()> on_end) {
  on_end_ = std::move(on_end);
  transport_->Start(this);
}

Task<void> Connection::WaitSettled() {
  const InFlight::Holder hold = in_flight_.Hold();
  co_await settled_.Wait();
  co_await transport_->Settle();
}

void Connection::OnEnd() {
  settled_.Set();
  on_end_();
}

void Connection::OnInit(Exchange* exchange) {
  Carries carries = transport_->carries();
  carries.init_flags |= init_flags_;
  fuse_init_out out;
  const IoStatus agreed =
      Negotiate(exchange->request.args.init, mask_, carries, &out, &agreement_);
  if (!agreed.ok()) {
    exchange->ReplyError(agreed.error());
    return settled_.Set();
  }
  exchange->Reply(exchange->Put(out));
  transport_->OnAgreed(agreement_);
  // Of a kernel of a newer major another INIT comes.
  if (agreement_.minor != 0) settled_.Set();
}

// Requests that concern no inode.
bool Connection::ServeHere(Exchange* exchange) {
  switch (exchange->request.opcode) {
    case FUSE_INIT:
      OnInit(exchange);
      return true;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      exchange->NoReply();
      return true;
    case FUSE_INTERRUPT:
      // Nothing is cancelled; the kernel then stops asking.
      exchange->ReplyError(ENOSYS);
      return true;
    case FUSE_DESTROY:
      exchange->Reply(0);
      return true;
    default:
      return false;
  }
}

void Connection::OnRequest(Exchange* exchange) {
  const FuseRequest& request = exchange->request;
  // Most requests are reads and writes: these first.
  if (request.opcode != FUSE_READ && request.opcode != FUSE_WRITE &&
      ServeHere(exchange)) {
    return;
  }
  if (refusal_ != 0) return exchange->ReplyError(refusal_);
  const uint64_t index = request.node_id - kRootId;
  Inode* inode = index < inodes_.size() ? inodes_[index] : nullptr;
  if (inode == nullptr) return exchange->ReplyError(ESTALE);
  Spawn(ServeAt(inode, exchange));
}

Task<void> Connection::ServeAt(Inode* inode, Exchange* exchange) {
  const InFlight::Holder hold = in_flight_.Hold();
  const IoResult<uint32_t> answer = co_await inode->Serve(exchange);
  if (answer.ok()) {
    exchange->Reply(*answer);
  } else {
    exchange->ReplyError(answer.error());
  }
}

}  // namespace bgfs::fuse
