// Copy range (engine.md, 2.10): offloaded where both ends reach leaves of one
// kind, else through memory.
//
//   source   export ── raw ── file  ─┐  READ on each node, then
//   target   export ── raw ── file ◀─┘  WRITE on each node
//
// Nested requests wait only further down an acyclic graph, and the writes of a
// copy are no such: two copies in opposite directions would wait for each other
// for ever, and one inside a node for its own read. So the writes do not wait
// (kNoWait); a copy that would have to goes through memory, where each read has
// ended before its write begins.

#include <algorithm>
#include <cerrno>

#include "graph/async/buffer.h"
#include "graph/async/check.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "graph/io.h"

namespace bgfs {
namespace {

// Inside the node, and nothing to pad.
bool FitsAsItIs(const Node& node, const Range& range) {
  return range.end() <= node.size() &&
         ((range.offset | range.bytes) % node.limits().request_alignment) == 0;
}

// Copies through memory; `From` and `To` are both Backend, or both Child.
constexpr int64_t kCopyBytes = int64_t{1} << 20;

Task<IoStatus> ReadFrom(Backend& from, int64_t offset, IoView data) {
  return from.Read(offset, data);
}
Task<IoStatus> ReadFrom(Child& from, int64_t offset, IoView data) {
  return from.Read(nullptr, offset, data);
}
Task<IoStatus> WriteTo(Backend& to, int64_t offset, IoView data,
                       RequestFlags flags) {
  return to.Write(offset, data, flags);
}
Task<IoStatus> WriteTo(Child& to, int64_t offset, IoView data,
                       RequestFlags flags) {
  return to.Write(nullptr, offset, data, flags);
}

template <typename End>
Task<IoStatus> CopyThroughMemory(End& from, int64_t offset, End& to,
                                 int64_t to_offset, int64_t bytes,
                                 RequestFlags flags) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(std::min(bytes, kCopyBytes));
  if (!buffer) co_return IoError(ENOMEM);
  for (int64_t done = 0; done < bytes;) {
    const IoView part = buffer.view(0, std::min(buffer.size(), bytes - done));
    BGFS_CO_TRY(co_await ReadFrom(from, offset + done, part));
    BGFS_CO_TRY(co_await WriteTo(to, to_offset + done, part, flags));
    done += part.size();
  }
  co_return IoStatus();
}

}  // namespace

Task<IoStatus> Child::CopyRange(Request* parent, int64_t offset, int64_t bytes,
                                CopyTarget target) {
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  if (bytes == 0) co_return IoStatus();
  if (&node_->graph() != &target.edge->node().graph()) {
    co_return IoError(ENOTSUP);
  }
  auto hold = node_->in_flight_.Hold();
  Request request(*node_, parent, RequestKind::kRead, {offset, bytes}, 0);
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  if (!FitsAsItIs(*node_, request.range())) co_return IoError(ENOTSUP);
  co_return co_await node_->driver().CopyRangeFrom(request, offset, bytes,
                                                   target);
}

Task<IoStatus> Child::CopyRangeTo(Request* parent, int64_t offset,
                                  int64_t bytes, CopySource source,
                                  RequestFlags flags) {
  BGFS_CHECK((permissions_.used & WriteRights(flags)) != 0);
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  auto hold = node_->in_flight_.Hold();
  bool flush = false;
  {
    Request request(*node_, parent, RequestKind::kWrite, {offset, bytes},
                    flags | kNoWait);
    const IoStatus admitted = co_await NodeIo::Admit(*this, request);
    if (admitted.error() == EBUSY) co_return IoError(ENOTSUP);
    BGFS_CO_TRY(admitted);
    if (!FitsAsItIs(*node_, request.range())) co_return IoError(ENOTSUP);
    flush = NodeIo::NeedsFlush(*node_, request);
    const IoStatus status =
        co_await node_->driver().CopyRangeTo(request, offset, bytes, source);
    NodeIo::Changed(request);
    if (status.error() != ENOTSUP) {
      node_->statistics_.copies.Count(bytes, status);
    }
    if (!flush || !status.ok()) co_return status;
  }
  co_return co_await Flush();
}

Task<IoStatus> Backend::CopyRange(int64_t offset, Backend& to,
                                  int64_t to_offset, int64_t bytes,
                                  RequestFlags flags) {
  if (!ValidRange(offset, bytes) || !ValidRange(to_offset, bytes)) {
    co_return IoError(EIO);
  }
  if (bytes == 0) co_return IoStatus();
  if (&home() != &to.home()) {
    co_return co_await CopyThroughMemory(*this, offset, to, to_offset, bytes,
                                         flags);
  }
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(),
                             CopyRange(offset, to, to_offset, bytes, flags));
  }
  const int64_t begun_ns = home().RecentNs();
  // Both open at once: who is parked at one gate holds nothing at the other.
  while (gate_closed() || to.gate_closed()) {
    BGFS_CO_TRY(co_await PassGate());
    BGFS_CO_TRY(co_await to.PassGate());
  }
  const auto entered = Enter();
  const auto entered_to = to.Enter();
  const IoStatus status =
      co_await CopyEntered(offset, to, to_offset, bytes, flags);
  co_return to.Ended(&to.statistics_.copies, begun_ns, bytes, status);
}

Task<IoStatus> Backend::CopyEntered(int64_t offset, Backend& to,
                                    int64_t to_offset, int64_t bytes,
                                    RequestFlags flags) {
  if (!to.MayWrite(flags)) co_return IoError(EPERM);
  const Range range = {offset, bytes};
  if (&node() == &to.node() && range.Overlaps({to_offset, bytes})) {
    co_return IoError(EINVAL);
  }
  if (to.writethrough_) flags |= kFua;
  const IoStatus offloaded = co_await root_->CopyRange(
      nullptr, offset, bytes, {to.root_.get(), to_offset, flags});
  if (offloaded.error() != ENOTSUP) co_return offloaded;
  co_return co_await CopyThroughMemory(*root_, offset, *to.root_, to_offset,
                                       bytes, flags);
}

}  // namespace bgfs
