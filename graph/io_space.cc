// Block status, zeros, discards and sizes of the one choke point (io.cc), once
// the request runs.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "graph/async/buffer.h"
#include "graph/async/check.h"
#include "graph/io.h"

namespace bgfs {
namespace {

// The next piece of [offset, end) for a request whose unaligned head and tail
// go on their own, so that the driver can do the middle well.
int64_t NextPiece(int64_t offset, int64_t end, int64_t alignment, int64_t max) {
  int64_t piece = end - offset;
  if (max > 0) {
    piece = std::min(piece, std::max(AlignDown(max, alignment), alignment));
  }
  if (offset % alignment != 0) {
    return std::min(piece, alignment - offset % alignment);
  }
  return piece > alignment ? AlignDown(piece, alignment) : piece;
}

}  // namespace

// --- Block status ----------------------------------------------------------

Task<IoResult<BlockStatus>> NodeIo::CachedStatus(Node& node, Request& request,
                                                 int64_t offset, int64_t bytes,
                                                 bool precise) {
  // Elsewhere the answer costs no system call, or may change from below.
  if (!precise || !node.children_.empty()) {
    return node.driver_->Status(request, offset, bytes, precise);
  }
  return LeafStatus(node, request, offset, bytes);
}

Task<IoResult<BlockStatus>> NodeIo::LeafStatus(Node& node, Request& request,
                                               int64_t offset, int64_t bytes) {
  constexpr uint32_t kDataHere =
      BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw;
  StatusCache& cache = node.status_cache_;
  if (const int64_t known = cache.DataFrom(offset); known > 0) {
    co_return BlockStatus{kDataHere, known, &node, offset};
  }
  const int64_t epoch = cache.epoch();
  IoResult<BlockStatus> status =
      co_await node.driver_->Status(request, offset, bytes, /*precise=*/true);
  if (status.ok() && status->flags == kDataHere && status->file == &node &&
      status->file_offset == offset) {
    cache.Remember({offset, status->bytes}, epoch);
  }
  co_return status;
}

Task<IoResult<BlockStatus>> NodeIo::Status(Node& node, Request& request,
                                           int64_t offset, int64_t bytes,
                                           bool precise) {
  const int64_t alignment = node.limits_.request_alignment;
  const int64_t from = AlignDown(offset, alignment);
  const int64_t to = std::min(AlignUp(offset + bytes, alignment), node.size_);
  IoResult<BlockStatus> status =
      co_await CachedStatus(node, request, from, to - from, precise);
  if (!status.ok()) co_return status;
  BGFS_CHECK(status->bytes > 0);
  int64_t end = std::min(from + status->bytes, to);
  if (end < to) end = AlignDown(end, alignment);
  if (end <= offset) {
    // A block of more than one kind is data.
    status->flags = BlockStatus::kData | BlockStatus::kAllocated;
    end = std::min(from + alignment, to);
  }
  status->file_offset += offset - from;
  status->bytes = std::min(end - offset, bytes);
  if (offset + status->bytes == node.size_) {
    status->flags |= BlockStatus::kEof;
  } else {
    status->flags &= ~BlockStatus::kEof;
  }
  co_return status;
}

// --- Zero, discard, truncate -----------------------------------------------

Task<IoStatus> NodeIo::Zero(Node& node, Request& request) {
  const Range& range = request.range();
  const int64_t inside = std::min(range.end(), node.size_) - range.offset;
  if (inside > 0) {
    BGFS_CO_TRY(co_await ZeroRange(node, request, range.offset, inside,
                                   request.flags() & kMayUnmap));
  }
  // Last, so that a request that fails has not grown the node.
  if (range.end() <= node.size_) co_return IoStatus();
  co_return co_await Grow(node, request, range.end(), Preallocation::kOff);
}

Task<IoStatus> NodeIo::ZeroRange(Node& node, Request& request, int64_t offset,
                                 int64_t bytes, RequestFlags flags) {
  BlockCut cut = BlockCut::Of(offset, bytes, node.limits_.request_alignment);
  // The end of the node is as good as aligned.
  if (cut.end == node.size_) cut.tail = cut.end;
  if (cut.middle > offset) {
    BGFS_CO_TRY(
        co_await WriteZeros(node, request, offset, cut.middle - offset));
  }
  if (cut.tail > cut.middle) {
    BGFS_CO_TRY(co_await ZeroPieces(node, request, cut.middle,
                                    cut.tail - cut.middle, flags));
  }
  if (cut.end > cut.tail) {
    BGFS_CO_TRY(
        co_await WriteZeros(node, request, cut.tail, cut.end - cut.tail));
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::ZeroPieces(Node& node, Request& request, int64_t offset,
                                  int64_t bytes, RequestFlags flags) {
  const Limits& limits = node.limits_;
  const int64_t alignment =
      std::max(limits.pwrite_zeroes_alignment, limits.request_alignment);
  const int64_t end = offset + bytes;
  while (offset < end) {
    const int64_t piece =
        NextPiece(offset, end, alignment, limits.max_pwrite_zeroes);
    IoStatus status =
        co_await node.driver_->Zero(request, offset, piece, flags);
    if (status.error() == ENOTSUP && (request.flags() & kNoFallback) == 0) {
      status = co_await WriteZeros(node, request, offset, piece);
    }
    BGFS_CO_TRY(status);
    offset += piece;
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::WriteZeros(Node& node, Request& request, int64_t offset,
                                  int64_t bytes) {
  const int64_t chunk = std::min(kMaxBounce, PieceLimit(node.limits_));
  AlignedBuffer zeros = AlignedBuffer::Allocate(std::min(chunk, bytes));
  if (!zeros) co_return IoError(ENOMEM);
  std::memset(zeros.data(), 0, static_cast<size_t>(zeros.size()));
  for (int64_t done = 0; done < bytes;) {
    const int64_t piece = std::min(zeros.size(), bytes - done);
    BGFS_CO_TRY(co_await WriteRange(node, request, offset + done,
                                    zeros.view(0, piece)));
    done += piece;
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::Discard(Node& node, Request& request) {
  const Limits& limits = node.limits_;
  const int64_t alignment =
      std::max(limits.pdiscard_alignment, limits.request_alignment);
  int64_t offset = request.range().offset;
  const int64_t end = std::min(request.range().end(), node.size_);
  IoStatus status;
  while (offset < end && status.ok()) {
    const int64_t piece =
        NextPiece(offset, end, alignment, limits.max_pdiscard);
    status = co_await node.driver_->Discard(request, offset, piece);
    if (status.error() == ENOTSUP) status = IoStatus();
    offset += piece;
  }
  co_return status;
}

Task<IoStatus> NodeIo::Truncate(Node& node, Request& request,
                                int64_t size_bytes,
                                Preallocation preallocation) {
  if (size_bytes > node.size_) {
    co_return co_await Grow(node, request, size_bytes, preallocation);
  }
  const IoStatus status =
      co_await node.driver_->Truncate(request, size_bytes, preallocation);
  if (status.ok()) node.SetSize(size_bytes);
  co_return status;
}

Task<IoStatus> NodeIo::Grow(Node& node, Request& request, int64_t size_bytes,
                            Preallocation preallocation) {
  const int64_t old_size = node.size_;
  BGFS_CO_TRY(co_await TrimTail(node, request));
  IoStatus status =
      co_await node.driver_->Truncate(request, size_bytes, preallocation);
  // A longer backing layer must not show through in what was added.
  const Child* backing = node.backing();
  if (status.ok() && backing != nullptr && backing->size() > old_size) {
    node.size_ = size_bytes;
    const int64_t end = std::min(backing->size(), size_bytes);
    status = co_await ZeroRange(node, request, old_size, end - old_size, 0);
    node.size_ = old_size;
  }
  if (status.ok()) {
    node.SetSize(size_bytes);
  } else {
    node.tail_dirty_ = true;
    (co_await TrimTail(node, request)).Ignore();
  }
  co_return status;
}

}  // namespace bgfs
