// The one choke point (engine.md, 2). Every request takes this way:
//
//   check the range ▶ track ▶ claim and wait (Admit) ▶ pad ▶ split ▶ driver
//     ▶ keep the books ▶ reply
//
// Here are the entry points and the claiming; io_transfer.cc has reads and
// writes, io_copy_up.cc copy-on-read, io_space.cc zeros, discards, sizes and
// block status.

#include "graph/io.h"

#include <algorithm>
#include <cerrno>

#include "graph/async/check.h"
#include "graph/host_bytes.h"

namespace bgfs {

// --- Entry points: the methods of Child ------------------------------------

Task<IoStatus> Child::Read(Request* parent, int64_t offset, IoView data,
                           RequestFlags flags) {
  BGFS_CHECK((flags & kCopyOnRead) == 0 ||
             (permissions_.used & WriteRights(kUnchanged)) != 0);
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
  if (request.serialising() && NodeIo::CopiesUp(request)) {
    const IoStatus status = co_await NodeIo::CopyUp(node, request, data);
    // No client sees a difference.
    NodeIo::Wrote(node);
    NodeIo::WroteUpTo(node, std::min(request.claim().end(), node.size_));
    node.statistics_.reads.Count(data.size(), status);
    co_return status;
  }
  const IoStatus status = co_await NodeIo::Read(node, request, offset, data);
  node.statistics_.reads.Count(data.size(), status);
  co_return status;
}

Task<IoStatus> Child::Write(Request* parent, int64_t offset, IoView data,
                            RequestFlags flags) {
  BGFS_CHECK((permissions_.used & WriteRights(flags)) != 0);
  if (!ValidRange(offset, data.size())) co_return IoError(EIO);
  if (data.size() == 0) co_return IoStatus();
  const DetectZeroes detect = node_->options().detect_zeroes;
  // The client may change its memory meanwhile, and none of it is copied: each
  // byte is looked at once, and once it was zero the memory is not read again.
  if (detect != DetectZeroes::kOff && data.AllZero()) {
    if (detect == DetectZeroes::kUnmap) flags |= kMayUnmap;
    co_return co_await Zero(parent, offset, data.size(), flags);
  }
  auto hold = node_->in_flight_.Hold();
  bool flush = false;
  {
    Request request(*node_, parent, RequestKind::kWrite, {offset, data.size()},
                    flags);
    BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
    flush = NodeIo::NeedsFlush(*node_, request);
    const IoStatus status = co_await NodeIo::Write(*node_, request, data);
    NodeIo::Changed(request);
    node_->statistics_.writes.Count(data.size(), status);
    if (!flush || !status.ok()) co_return status;
  }
  co_return co_await Flush();
}

Task<IoStatus> Child::Zero(Request* parent, int64_t offset, int64_t bytes,
                           RequestFlags flags) {
  BGFS_CHECK((permissions_.used & WriteRights(flags)) != 0);
  if (!ValidRange(offset, bytes)) co_return IoError(EIO);
  if (bytes == 0) co_return IoStatus();
  if (!node_->options().unmap) flags &= ~kMayUnmap;
  auto hold = node_->in_flight_.Hold();
  bool flush = false;
  {
    Request request(*node_, parent, RequestKind::kWrite, {offset, bytes},
                    flags);
    request.set_is_zero();
    BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
    flush = NodeIo::NeedsFlush(*node_, request);
    const IoStatus status = co_await NodeIo::Zero(*node_, request);
    NodeIo::Changed(request);
    node_->statistics_.zeros.Count(bytes, status);
    if (!flush || !status.ok()) co_return status;
  }
  co_return co_await Flush();
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
  NodeIo::Changed(request);
  node_->statistics_.discards.Count(bytes, status);
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
  NodeIo::Changed(request);
  node_->statistics_.truncates.Count(0, status);
  co_return status;
}

// As a truncate to the size that it has already: neither another truncate nor a
// write that grows the node is under way meanwhile.
Task<IoResult<FileInfo>> Child::Look(Request* parent) {
  Node& node = *node_;
  HostBytes* const bytes = node.driver().host_bytes();
  BGFS_CHECK(bytes != nullptr);
  auto hold = node.in_flight_.Hold();
  Request request(node, parent, RequestKind::kTruncate,
                  Range::FromTo(node.size_, Range::kToInfinity), 0);
  BGFS_CO_TRY(co_await NodeIo::Admit(*this, request));
  const IoResult<FileInfo> info = co_await bytes->Look(request);
  if (!info.ok()) co_return info.status();
  if (info->size > kMaxNodeBytes) co_return IoError(EFBIG);
  node.SetSize(info->size);
  co_return info;
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

bool NodeIo::NeedsFlush(const Node& node, const Request& request) {
  if ((request.flags() & kFua) == 0) return false;
  // A new size is no part of what a driver does for kFua.
  return !node.driver_->has_fua() || request.range().end() > node.size_;
}

Task<IoResult<Range>> NodeIo::AskForWindow(Request& request) {
  if (request.kind() == RequestKind::kRead) return CopyUpWindow(request);
  return request.node().driver_->ChangeWindow(request);
}

Task<IoStatus> NodeIo::Admit(const Child& edge, Request& request) {
  const int64_t alignment = request.node().limits_.request_alignment;
  while (true) {
    BGFS_CO_TRY(ClaimForEngine(edge, request));
    if (request.kind() != RequestKind::kRead || CopiesUp(request)) {
      request.BeginAsking();
      IoResult<Range> window = co_await AskForWindow(request);
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
    if ((request.flags() & kNoWait) != 0) co_return IoError(EBUSY);
    ++request.node().statistics_.serialising_waits;
    co_await request.WaitFor(blocker);
  }
}

// --- The books -------------------------------------------------------------

void NodeIo::WroteUpTo(Node& node, int64_t end) {
  node.highest_write_ = std::max(node.highest_write_, end);
  node.write_threshold_.Wrote(end);
}

void NodeIo::Changed(const Request& request) {
  Node& node = request.node();
  const Range& range = request.range();
  Wrote(node);
  const bool write = request.kind() == RequestKind::kWrite;
  if (write) WroteUpTo(node, range.end());
  if (!write || request.is_zero()) node.status_cache_.Forget(range);
  // A new size is SetSize()'s, also where a write grew the node over a gap.
  if (node.dirty_bitmaps_.empty() || request.kind() == RequestKind::kTruncate) {
    return;
  }
  node.dirty_bitmaps_.Changed(
      Range::FromTo(range.offset, std::min(range.end(), node.size_)));
}

}  // namespace bgfs
