#include "graph/driver.h"

#include "graph/node.h"

namespace bgfs {

// What a driver does not know it refuses; only a pure filter passes on what it
// does not understand.

Task<IoStatus> Driver::Write(Request&, int64_t, IoView) {
  co_return IoError(ENOTSUP);
}

Task<IoStatus> Driver::Zero(Request&, int64_t, int64_t, RequestFlags) {
  co_return IoError(ENOTSUP);
}

Task<IoStatus> Driver::Discard(Request&, int64_t, int64_t) {
  co_return IoError(ENOTSUP);
}

Task<IoStatus> Driver::Reserve(Request&, int64_t, int64_t) {
  co_return IoError(ENOTSUP);
}

Task<IoStatus> Driver::Truncate(Request&, int64_t, Preallocation) {
  co_return IoError(ENOTSUP);
}

Task<IoStatus> Driver::FlushToOs() { co_return IoStatus(); }

Task<IoStatus> Driver::FlushToDisk() { co_return IoStatus(); }

Task<void> Driver::AfterFlush() { co_return; }

Task<IoResult<BlockStatus>> Driver::Status(Request&, int64_t, int64_t bytes,
                                           bool) {
  BlockStatus status;
  status.flags = BlockStatus::kData | BlockStatus::kAllocated;
  status.bytes = bytes;
  co_return status;
}

Task<IoResult<Range>> Driver::ChangeWindow(const Request&) {
  co_return Range{};
}

Task<IoStatus> Driver::CopyRangeFrom(Request&, int64_t, int64_t, CopyTarget) {
  co_return IoError(ENOTSUP);
}

Task<IoStatus> Driver::CopyRangeTo(Request&, int64_t, int64_t, CopySource) {
  co_return IoError(ENOTSUP);
}

PermissionSet Driver::ChildPermissions(const Child& child,
                                       const PermissionSet& users) const {
  switch (child.role()) {
    case ChildRole::kFile: {
      // A format's metadata must not change under it, and it may write
      // metadata of its own accord.
      PermissionSet needs;
      needs.used = kConsistentRead;
      if (!node().read_only()) needs.used |= kWrite | kResize;
      needs.shared = kConsistentRead | kWriteUnchanged;
      return needs;
    }
    case ChildRole::kBacking:
      return {kConsistentRead, kConsistentRead | kWriteUnchanged};
    case ChildRole::kFilter:
    case ChildRole::kRoot:
      return users;
  }
  return users;
}

absl::Status Driver::PreparePermissions(const PermissionSet&) {
  return absl::OkStatus();
}

Task<absl::Status> Driver::Open() { co_return absl::OkStatus(); }

Task<IoStatus> Driver::Inactivate() { co_return IoStatus(); }

Task<void> Driver::Close() { co_return; }

}  // namespace bgfs
