#include "graph/async/uring_file.h"

#include <algorithm>

namespace bgfs {

void UringFile::Submit(FileOp* op, bool blocks) {
  switch (op->kind) {
    case FileOp::Kind::kRead:
    case FileOp::Kind::kWrite:
      return SubmitTransfer(op, blocks);
    case FileOp::Kind::kSync:
    case FileOp::Kind::kDataSync: {
      io_uring_sqe* sqe = loop_->NewSqe(op);
      sqe->opcode = IORING_OP_FSYNC;
      sqe->fd = fd();
      sqe->fsync_flags =
          op->kind == FileOp::Kind::kDataSync ? IORING_FSYNC_DATASYNC : 0;
      return;
    }
    case FileOp::Kind::kAllocate: {
      io_uring_sqe* sqe = loop_->NewSqe(op);
      sqe->opcode = IORING_OP_FALLOCATE;
      sqe->fd = fd();
      sqe->off = static_cast<uint64_t>(op->offset);
      sqe->addr = static_cast<uint64_t>(op->bytes);
      sqe->len = static_cast<unsigned>(op->mode);
      return;
    }
    case FileOp::Kind::kTruncate:
      // IORING_OP_FTRUNCATE came with Linux 6.9; a thread does on all.
    case FileOp::Kind::kCopyRange:
      loop_->StartOffload(
          Loop::Offload::kBlocking, [this, op] { op->result = Perform(op); },
          op);
      return;
  }
}

void UringFile::SubmitTransfer(FileOp* op, bool blocks) {
  const bool read = op->kind == FileOp::Kind::kRead;
  io_uring_sqe* sqe = loop_->NewSqe(op);
  sqe->fd = fd();
  sqe->off = static_cast<uint64_t>(op->offset);
  if (blocks) sqe->flags |= IOSQE_ASYNC;
  if (op->view.contiguous()) {
    sqe->opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
    sqe->addr = reinterpret_cast<uint64_t>(op->view.data());
    sqe->len =
        static_cast<unsigned>(std::min<int64_t>(op->bytes, int64_t{1} << 30));
    return;
  }
  op->pieces.clear();
  op->view.AppendTo(&op->pieces);
  sqe->opcode = read ? IORING_OP_READV : IORING_OP_WRITEV;
  sqe->addr = reinterpret_cast<uint64_t>(op->pieces.data());
  sqe->len = static_cast<unsigned>(std::min<size_t>(op->pieces.size(), 1024));
}

}  // namespace bgfs
