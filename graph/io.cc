// The one choke point (engine.md, 2). Every request takes this way:
//
//   check the range ▶ track ▶ claim and wait (Admit) ▶ pad ▶ split ▶ driver
//     ▶ keep the books ▶ reply
//
// Padding: a driver sees only multiples of its request_alignment, but for a
// range that ends with the node. The blocks at both ends of an unaligned
// request are bounced (a write reads, merges and writes them, under a claim of
// the whole blocks); the middle goes straight from or to the caller's memory if
// that is aligned as the node wants it.
//
// What needs none of this passes through functions that are no coroutines
// themselves and give the driver's task to the caller: a frame less each.

#include "graph/io.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "graph/async/buffer.h"
#include "graph/async/check.h"

namespace bgfs {
namespace {

bool ValidRange(int64_t offset, int64_t bytes) {
  return offset >= 0 && bytes >= 0 && bytes <= Range::kToInfinity - offset;
}

// The largest piece of one transfer.
int64_t PieceLimit(const Limits& limits) {
  const int64_t max =
      limits.max_transfer > 0 ? limits.max_transfer : (int64_t{1} << 30);
  return std::max(AlignDown(max, limits.request_alignment),
                  limits.request_alignment);
}

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

Task<IoStatus> Done() { co_return IoStatus(); }

// Whether the driver can take the caller's memory as it lies.
bool MemoryFits(const Limits& limits, const IoView& data) {
  if (limits.min_memory_alignment > 1 &&
      !data.AlignedTo(limits.min_memory_alignment)) {
    return false;
  }
  return data.contiguous() || limits.max_iov == 0 ||
         data.CountPieces() <= limits.max_iov;
}

}  // namespace

// --- Entry points: the methods of Child ------------------------------------

Task<IoStatus> Child::Read(Request* parent, int64_t offset, IoView data,
                           RequestFlags flags) {
  if (!ValidRange(offset, data.size())) co_return IoError(EIO);
  if (data.size() == 0) co_return IoStatus();
  Node& node = *node_;
  auto hold = node.in_flight_.Hold();
  Request request(node, parent, RequestKind::kRead, {offset, data.size()},
                  flags);
  if (node.requests_.serialising_count() == 0 && flags == 0) {
    request.Run();
  } else {
    BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  }
  if (role_ == ChildRole::kRoot && request.range().end() > node.size_) {
    co_return IoError(EIO);
  }
  co_return co_await NodeIo::Read(node, request, offset, data);
}

Task<IoStatus> Child::Write(Request* parent, int64_t offset, IoView data,
                            RequestFlags flags) {
  BGFS_CHECK((permissions_.used & (kWrite | kWriteUnchanged)) != 0);
  if (!ValidRange(offset, data.size())) co_return IoError(EIO);
  if (data.size() == 0) co_return IoStatus();
  auto hold = node_->in_flight_.Hold();
  Request request(*node_, parent, RequestKind::kWrite, {offset, data.size()},
                  flags);
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  const IoStatus status = co_await NodeIo::Write(*node_, request, data);
  NodeIo::Wrote(*node_);
  co_return status;
}

Task<IoStatus> Child::Zero(Request* parent, int64_t offset, int64_t bytes,
                           RequestFlags flags) {
  BGFS_CHECK((permissions_.used & (kWrite | kWriteUnchanged)) != 0);
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  if (bytes == 0) co_return IoStatus();
  if (!node_->options().unmap) flags &= ~kMayUnmap;
  auto hold = node_->in_flight_.Hold();
  Request request(*node_, parent, RequestKind::kWrite, {offset, bytes}, flags);
  request.set_is_zero();
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  const IoStatus status = co_await NodeIo::Zero(*node_, request);
  NodeIo::Wrote(*node_);
  co_return status;
}

Task<IoStatus> Child::Discard(Request* parent, int64_t offset, int64_t bytes) {
  BGFS_CHECK((permissions_.used & kWrite) != 0);
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  bytes = std::min(bytes, std::max<int64_t>(0, size() - offset));
  if (bytes == 0 || !node_->options().unmap) co_return IoStatus();
  auto hold = node_->in_flight_.Hold();
  Request request(*node_, parent, RequestKind::kDiscard, {offset, bytes}, 0);
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  const IoStatus status = co_await NodeIo::Discard(*node_, request);
  NodeIo::Wrote(*node_);
  co_return status;
}

Task<IoStatus> Child::Reserve(Request* parent, int64_t offset, int64_t bytes) {
  BGFS_CHECK((permissions_.used & kWrite) != 0);
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  if (bytes == 0) co_return IoStatus();
  if (offset + bytes > size()) co_return IoError(EIO);
  auto hold = node_->in_flight_.Hold();
  Request request(*node_, parent, RequestKind::kWrite, {offset, bytes}, 0);
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  if (offset + bytes > size()) co_return IoError(EIO);  // it shrank
  const IoStatus status =
      co_await node_->driver().Reserve(request, offset, bytes);
  NodeIo::Wrote(*node_);
  co_return status;
}

Task<IoStatus> Child::Truncate(Request* parent, int64_t size_bytes, bool exact,
                               Preallocation preallocation) {
  BGFS_CHECK((permissions_.used & kResize) != 0);
  if (size_bytes < 0) co_return IoError(EINVAL);
  if (size_bytes > kMaxNodeBytes) co_return IoError(EFBIG);
  if (node_->read_only()) co_return IoError(EPERM);
  auto hold = node_->in_flight_.Hold();
  Request request(
      *node_, parent, RequestKind::kTruncate,
      Range::FromTo(std::min(size(), size_bytes), Range::kToInfinity), 0);
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  if (!exact && size_bytes <= size()) co_return IoStatus();
  if (size_bytes < size() && preallocation != Preallocation::kOff) {
    co_return IoError(EINVAL);
  }
  const IoStatus status =
      co_await NodeIo::Truncate(*node_, request, size_bytes, preallocation);
  NodeIo::Wrote(*node_);
  co_return status;
}

Task<IoResult<BlockStatus>> Child::Status(Request* parent, int64_t offset,
                                          int64_t bytes, bool precise) {
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  if (bytes == 0) co_return BlockStatus{};
  Node& node = *node_;
  auto hold = node.in_flight_.Hold();
  Request request(node, parent, RequestKind::kRead, {offset, bytes}, 0);
  if (IoStatus admitted = co_await NodeIo::Admit(*this, request);
      !admitted.ok()) {
    co_return admitted;
  }
  if (offset >= node.size()) {
    BlockStatus past_end;
    past_end.flags = BlockStatus::kZero | BlockStatus::kEof;
    past_end.bytes = bytes;
    co_return past_end;
  }
  co_return co_await NodeIo::Status(
      node, request, offset, std::min(bytes, node.size() - offset), precise);
}

// --- Claiming and waiting --------------------------------------------------

// What the engine itself makes serialising, from the size as it is now.
IoStatus NodeIo::ClaimForEngine(const Child& edge, Request& request) {
  const Node& node = request.node();
  const int64_t alignment = node.limits_.request_alignment;
  if ((request.flags() & kSerialise) != 0) {
    request.Claim(request.range().AlignedTo(alignment));
  }
  if (request.kind() == RequestKind::kTruncate) {
    // The node may have become smaller while it waited.
    request.Claim(Range::FromTo(std::min(node.size_, request.range().offset),
                                Range::kToInfinity)
                      .AlignedTo(alignment));
  }
  if (request.kind() != RequestKind::kWrite) return IoStatus();
  const Range& range = request.range();
  if (node.read_only()) return IoError(EPERM);
  if (range.end() > node.size_) {
    if ((edge.permissions().used & kResize) == 0) return IoError(EIO);
    if (range.end() > kMaxNodeBytes) return IoError(EFBIG);
    request.Claim(
        Range::FromTo(std::min(node.size_, range.offset), Range::kToInfinity)
            .AlignedTo(alignment));
  }
  if (alignment > 1 && ((range.offset | range.end()) % alignment) != 0) {
    request.Claim(range.AlignedTo(alignment));
  }
  return IoStatus();
}

Task<IoStatus> NodeIo::Admit(const Child& edge, Request& request) {
  const int64_t alignment = request.node().limits_.request_alignment;
  while (true) {
    BGFS_CO_TRY(ClaimForEngine(edge, request));
    if (request.kind() != RequestKind::kRead) {
      request.BeginAsking();
      IoResult<Range> window =
          co_await request.node().driver_->ChangeWindow(request);
      const bool stale = request.EndAsking(
          window.ok() ? window->AlignedTo(alignment) : Range{});
      if (!window.ok()) co_return window.status();
      if (stale) continue;
    }
    Request* blocker = request.FindBlocker();
    if (blocker == nullptr) {
      request.Run();
      co_return IoStatus();
    }
    co_await request.WaitFor(blocker);
  }
}

// --- Read ------------------------------------------------------------------

Task<IoStatus> NodeIo::Read(Node& node, Request& request, int64_t offset,
                            IoView data) {
  const Limits& limits = node.limits_;
  const int64_t inside =
      std::clamp<int64_t>(node.size_ - offset, 0, data.size());
  if (inside < data.size()) {
    data.Slice(inside, data.size() - inside).Zero();
    if (inside == 0) return Done();
    data = data.Slice(0, inside);
  }
  if (((offset | inside) & (limits.request_alignment - 1)) == 0 &&
      MemoryFits(limits, data)) {
    return ReadPieces(node, request, offset, data);
  }
  return ReadPadded(node, request, offset, data);
}

Task<IoStatus> NodeIo::ReadPadded(Node& node, Request& request, int64_t offset,
                                  IoView data) {
  const Limits& limits = node.limits_;
  const int64_t alignment = limits.request_alignment;
  const int64_t end = offset + data.size();
  const int64_t middle = std::min(AlignUp(offset, alignment), end);
  const int64_t tail = std::max(AlignDown(end, alignment), middle);
  if (middle > offset) {
    BGFS_CO_TRY(co_await ReadBounced(node, request, offset,
                                     data.Slice(0, middle - offset)));
  }
  if (tail > middle) {
    const IoView part = data.Slice(middle - offset, tail - middle);
    BGFS_CO_TRY(MemoryFits(limits, part)
                    ? co_await ReadPieces(node, request, middle, part)
                    : co_await ReadBounced(node, request, middle, part));
  }
  if (end > tail) {
    BGFS_CO_TRY(co_await ReadBounced(node, request, tail,
                                     data.Slice(tail - offset, end - tail)));
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::ReadPieces(Node& node, Request& request, int64_t offset,
                                  IoView data) {
  if (data.size() <= PieceLimit(node.limits_)) {
    return node.driver_->Read(request, offset, data);
  }
  return ReadSplit(node, request, offset, data);
}

Task<IoStatus> NodeIo::ReadSplit(Node& node, Request& request, int64_t offset,
                                 IoView data) {
  const int64_t limit = PieceLimit(node.limits_);
  for (int64_t done = 0; done < data.size();) {
    const int64_t bytes = std::min(limit, data.size() - done);
    BGFS_CO_TRY(co_await node.driver_->Read(request, offset + done,
                                            data.Slice(done, bytes)));
    done += bytes;
  }
  co_return IoStatus();
}

// Through a buffer, whole blocks at a time.
Task<IoStatus> NodeIo::ReadBounced(Node& node, Request& request, int64_t offset,
                                   IoView data) {
  const int64_t alignment = node.limits_.request_alignment;
  const int64_t chunk = std::max(kMaxBounce, alignment);
  for (int64_t done = 0; done < data.size();) {
    const int64_t from = AlignDown(offset + done, alignment);
    const int64_t skip = offset + done - from;
    const int64_t bytes = std::min(chunk - skip, data.size() - done);
    const int64_t padded = AlignUp(skip + bytes, alignment);
    AlignedBuffer bounce = AlignedBuffer::Allocate(padded);
    if (!bounce) co_return IoError(ENOMEM);
    BGFS_CO_TRY(co_await ReadPieces(node, request, from, bounce.view()));
    data.Slice(done, bytes).CopyFrom(bounce.data() + skip);
    done += bytes;
  }
  co_return IoStatus();
}

// --- Write -----------------------------------------------------------------

Task<IoStatus> NodeIo::Write(Node& node, Request& request, IoView data) {
  if (request.range().end() > node.size_) {
    return WriteGrowing(node, request, data);
  }
  return WriteRange(node, request, request.range().offset, data);
}

Task<IoStatus> NodeIo::WriteGrowing(Node& node, Request& request, IoView data) {
  const int64_t offset = request.range().offset;
  const int64_t old_size = node.size_;
  BGFS_CO_TRY(co_await TrimTail(node, request));
  if (offset > old_size) {
    BGFS_CO_TRY(co_await Grow(node, request, offset, Preallocation::kOff));
  }
  const IoStatus status = co_await WriteRange(node, request, offset, data);
  if (status.ok()) {
    node.SetSize(request.range().end());
  } else {
    node.SetSize(old_size);
    node.tail_dirty_ = true;
    (co_await TrimTail(node, request)).Ignore();
  }
  co_return status;
}

Task<IoStatus> NodeIo::TrimTail(Node& node, Request& request) {
  if (!node.tail_dirty_) co_return IoStatus();
  const IoStatus status =
      co_await node.driver_->Truncate(request, node.size_, Preallocation::kOff);
  node.tail_dirty_ = !status.ok();
  co_return status;
}

Task<IoStatus> NodeIo::WriteRange(Node& node, Request& request, int64_t offset,
                                  IoView data) {
  const Limits& limits = node.limits_;
  if (((offset | data.size()) & (limits.request_alignment - 1)) == 0 &&
      MemoryFits(limits, data)) {
    return WritePieces(node, request, offset, data);
  }
  return WritePadded(node, request, offset, data);
}

Task<IoStatus> NodeIo::WritePadded(Node& node, Request& request, int64_t offset,
                                   IoView data) {
  const Limits& limits = node.limits_;
  const int64_t alignment = limits.request_alignment;
  const int64_t end = offset + data.size();
  const int64_t middle = std::min(AlignUp(offset, alignment), end);
  const int64_t tail = std::max(AlignDown(end, alignment), middle);
  if (middle > offset) {
    BGFS_CO_TRY(co_await WriteBlockPart(node, request, offset,
                                        data.Slice(0, middle - offset)));
  }
  if (tail > middle) {
    const IoView part = data.Slice(middle - offset, tail - middle);
    BGFS_CO_TRY(MemoryFits(limits, part)
                    ? co_await WritePieces(node, request, middle, part)
                    : co_await WriteBounced(node, request, middle, part));
  }
  if (end > tail) {
    BGFS_CO_TRY(co_await WriteBlockPart(node, request, tail,
                                        data.Slice(tail - offset, end - tail)));
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::WritePieces(Node& node, Request& request, int64_t offset,
                                   IoView data) {
  if (data.size() <= PieceLimit(node.limits_)) {
    return node.driver_->Write(request, offset, data);
  }
  return WriteSplit(node, request, offset, data);
}

Task<IoStatus> NodeIo::WriteSplit(Node& node, Request& request, int64_t offset,
                                  IoView data) {
  const int64_t limit = PieceLimit(node.limits_);
  for (int64_t done = 0; done < data.size();) {
    const int64_t bytes = std::min(limit, data.size() - done);
    BGFS_CO_TRY(co_await node.driver_->Write(request, offset + done,
                                             data.Slice(done, bytes)));
    done += bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::WriteBounced(Node& node, Request& request,
                                    int64_t offset, IoView data) {
  for (int64_t done = 0; done < data.size();) {
    const int64_t bytes = std::min(kMaxBounce, data.size() - done);
    AlignedBuffer bounce = AlignedBuffer::Allocate(bytes);
    if (!bounce) co_return IoError(ENOMEM);
    data.Slice(done, bytes).CopyTo(bounce.data());
    BGFS_CO_TRY(
        co_await WritePieces(node, request, offset + done, bounce.view()));
    done += bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::WriteBlockPart(Node& node, Request& request,
                                      int64_t offset, IoView data) {
  const int64_t alignment = node.limits_.request_alignment;
  const int64_t block = AlignDown(offset, alignment);
  const int64_t end = offset + data.size();
  AlignedBuffer bounce = AlignedBuffer::Allocate(alignment);
  if (!bounce) co_return IoError(ENOMEM);
  std::memset(bounce.data(), 0, static_cast<size_t>(alignment));
  if (block < node.size_) {
    BGFS_CO_TRY(co_await node.driver_->Read(request, block, bounce.view()));
  }
  data.CopyTo(bounce.data() + (offset - block));
  // The last block of the node ends where the node does.
  const int64_t last = std::min(block + alignment, std::max(node.size_, end));
  co_return co_await node.driver_->Write(request, block,
                                         bounce.view(0, last - block));
}

// --- Block status ----------------------------------------------------------

Task<IoResult<BlockStatus>> NodeIo::Status(Node& node, Request& request,
                                           int64_t offset, int64_t bytes,
                                           bool precise) {
  const int64_t alignment = node.limits_.request_alignment;
  const int64_t from = AlignDown(offset, alignment);
  const int64_t to = std::min(AlignUp(offset + bytes, alignment), node.size_);
  IoResult<BlockStatus> status =
      co_await node.driver_->Status(request, from, to - from, precise);
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
  const int64_t alignment = node.limits_.request_alignment;
  const int64_t end = offset + bytes;
  // The end of the node is as good as aligned.
  const int64_t aligned_end =
      end == node.size_ ? end : AlignDown(end, alignment);
  const int64_t middle = std::min(AlignUp(offset, alignment), end);
  const int64_t tail = std::max(aligned_end, middle);
  if (middle > offset) {
    BGFS_CO_TRY(co_await WriteZeros(node, request, offset, middle - offset));
  }
  if (tail > middle) {
    BGFS_CO_TRY(
        co_await ZeroPieces(node, request, middle, tail - middle, flags));
  }
  if (end > tail) {
    BGFS_CO_TRY(co_await WriteZeros(node, request, tail, end - tail));
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
    if (status.error() == ENOTSUP) {
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
