// Copy-on-read (engine.md, 2.3): a read that leaves in its node what it got
// from below.
//
//   units    |  here  |  below  |  below  |  here  |
//   read          [-----------------------------)
//   window            [-------------------)          claimed, serialising
//
// The engine asks the driver for the status of the units of copy_alignment
// around the read, as it asks for a change window before a write: what is not
// allocated is claimed, and asked for again after a wait. Once the read runs,
// each such unit is read through the driver and written back through it, under
// the one claim, so no write of a client comes in between.

#include <algorithm>
#include <cerrno>

#include "graph/async/buffer.h"
#include "graph/async/check.h"
#include "graph/io.h"

namespace bgfs {
namespace {

// The whole units around what the request reads inside its node.
Range Units(const Request& request) {
  const Node& node = request.node();
  const Range units = request.range().AlignedTo(node.limits().copy_alignment);
  return Range::FromTo(units.offset, std::min(units.end(), node.size()));
}

bool IsHere(const BlockStatus& status) {
  return (status.flags & BlockStatus::kAllocated) != 0;
}

}  // namespace

bool NodeIo::CopiesUp(const Request& request) {
  const Node& node = request.node();
  return request.kind() == RequestKind::kRead &&
         (request.flags() & kCopyOnRead) != 0 && !node.read_only() &&
         node.limits().copy_alignment > 0 && node.backing() != nullptr;
}

Task<IoResult<Range>> NodeIo::CopyUpWindow(Request& request) {
  const Node& node = request.node();
  Range window;
  // The node may shrink meanwhile.
  for (Range left = Units(request); left.bytes > 0;) {
    const auto status = co_await node.driver().Status(
        request, left.offset, left.bytes, /*precise=*/false);
    if (!status.ok()) co_return status.status();
    const int64_t end = std::min(left.offset + status->bytes, left.end());
    BGFS_CHECK(end > left.offset);
    if (!IsHere(*status)) {
      window = window.Union(Range::FromTo(left.offset, end));
    }
    left = Range::FromTo(end, std::min(left.end(), node.size()));
  }
  co_return window.AlignedTo(node.limits().copy_alignment);
}

Task<IoStatus> NodeIo::CopyUp(Node& node, Request& request, IoView data) {
  const int64_t unit = node.limits_.copy_alignment;
  const int64_t chunk = std::max(AlignDown(kMaxBounce, unit), unit);
  const int64_t offset = request.range().offset;
  const Range units = Units(request);
  // What lies past the end.
  const int64_t inside =
      std::clamp<int64_t>(node.size_ - offset, 0, data.size());
  data.Slice(inside, data.size() - inside).Zero();
  for (int64_t at = units.offset; at < units.end();) {
    const auto status = co_await node.driver_->Status(
        request, at, units.end() - at, /*precise=*/false);
    if (!status.ok()) co_return status.status();
    int64_t end = std::min(at + status->bytes, units.end());
    // A unit that is here in part only is copied whole.
    const bool whole = end == units.end() || AlignDown(end, unit) > at;
    if (IsHere(*status) && whole) {
      if (end < units.end()) end = AlignDown(end, unit);
      const int64_t from = std::max(at, offset);
      const int64_t to = std::min(end, offset + inside);
      if (to > from) {
        BGFS_CO_TRY(co_await Read(node, request, from,
                                  data.Slice(from - offset, to - from)));
      }
    } else {
      end = std::min({AlignUp(end, unit), units.end(), at + chunk});
      BGFS_CO_TRY(
          co_await CopyUpPiece(node, request, at, end, data.Slice(0, inside)));
    }
    at = end;
  }
  co_return IoStatus();
}

Task<IoStatus> NodeIo::CopyUpPiece(Node& node, Request& request, int64_t at,
                                   int64_t end, IoView data) {
  AlignedBuffer copy = AlignedBuffer::Allocate(end - at);
  if (!copy) co_return IoError(ENOMEM);
  BGFS_CO_TRY(co_await Read(node, request, at, copy.view()));
  // Zeros take no space above either.
  BGFS_CO_TRY(copy.view().AllZero()
                  ? co_await ZeroPieces(node, request, at, end - at, 0)
                  : co_await WriteRange(node, request, at, copy.view()));
  const int64_t offset = request.range().offset;
  const int64_t from = std::max(at, offset);
  const int64_t to = std::min(end, offset + data.size());
  if (to > from) {
    data.Slice(from - offset, to - from).CopyFrom(copy.data() + (from - at));
  }
  co_return IoStatus();
}

}  // namespace bgfs
