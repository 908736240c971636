// Reads and writes of the one choke point (io.cc), once they run: padding,
// splitting, growing.
//
// Padding: a driver sees only multiples of its request_alignment, but for a
// range that ends with the node. The blocks at both ends of an unaligned
// request are bounced (a write reads, merges and writes them, under a claim of
// the whole blocks); the middle goes straight from or to the caller's memory if
// that is aligned as the node wants it.
//
// What needs none of this passes through functions that are no coroutines
// themselves and give the driver's task to the caller: a frame less each.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "graph/async/buffer.h"
#include "graph/io.h"

namespace bgfs {
namespace {

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

BlockCut BlockCut::Of(int64_t offset, int64_t bytes, int64_t alignment) {
  const int64_t end = offset + bytes;
  const int64_t middle = std::min(AlignUp(offset, alignment), end);
  return {middle, std::max(AlignDown(end, alignment), middle), end};
}

int64_t NodeIo::PieceLimit(const Limits& limits) {
  const int64_t max =
      limits.max_transfer > 0 ? limits.max_transfer : (int64_t{1} << 30);
  return std::max(AlignDown(max, limits.request_alignment),
                  limits.request_alignment);
}

// The ways of a read and of a write for each part of an unaligned one.
struct NodeIo::Ways {
  using Way = Task<IoStatus> (*)(Node&, Request&, int64_t offset, IoView data);
  Way whole;    // whole blocks, in memory that fits
  Way bounced;  // whole blocks, in memory that does not
  Way partial;  // inside one block
};

constexpr NodeIo::Ways NodeIo::kReading = {&ReadPieces, &ReadBounced,
                                           &ReadBounced};
constexpr NodeIo::Ways NodeIo::kWriting = {&WritePieces, &WriteBounced,
                                           &WriteBlockPart};

Task<IoStatus> NodeIo::Padded(const Ways& ways, Node& node, Request& request,
                              int64_t offset, IoView data) {
  const Limits& limits = node.limits_;
  const BlockCut cut =
      BlockCut::Of(offset, data.size(), limits.request_alignment);
  if (cut.middle > offset) {
    BGFS_CO_TRY(co_await ways.partial(node, request, offset,
                                      data.Slice(0, cut.middle - offset)));
  }
  if (cut.tail > cut.middle) {
    const IoView part = data.Slice(cut.middle - offset, cut.tail - cut.middle);
    const Ways::Way way = MemoryFits(limits, part) ? ways.whole : ways.bounced;
    BGFS_CO_TRY(co_await way(node, request, cut.middle, part));
  }
  if (cut.end > cut.tail) {
    BGFS_CO_TRY(co_await ways.partial(
        node, request, cut.tail,
        data.Slice(cut.tail - offset, cut.end - cut.tail)));
  }
  co_return IoStatus();
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
  return Padded(kReading, node, request, offset, data);
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
  return Padded(kWriting, node, request, offset, data);
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

}  // namespace bgfs
