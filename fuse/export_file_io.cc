// Reads, writes, copies and fsync of an export's file.

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>

#include "fuse/export_file.h"

namespace bgfs::fuse {
namespace {

constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();

// The most one COPY_FILE_RANGE does: the caller comes back for the rest, and
// can be stopped in between.
constexpr int64_t kMaxCopyBytes = int64_t{64} << 20;

}  // namespace

// Clipped at the end of the file. When the file shrank while the read waited,
// it is clipped again.
Task<IoResult<uint32_t>> ExportFile::Read(Exchange* exchange) {
  const fuse_read_in& in = exchange->request.args.read;
  if (in.size > exchange->capacity) co_return IoError(EINVAL);
  for (;;) {
    const int64_t size = backend_->size();
    if (in.offset >= static_cast<uint64_t>(size)) co_return 0;
    const auto offset = static_cast<int64_t>(in.offset);
    const int64_t bytes = std::min<int64_t>(in.size, size - offset);
    exchange->touched =
        std::max(exchange->touched, static_cast<uint32_t>(bytes));
    const IoStatus status =
        co_await backend_->Read(offset, IoView(exchange->payload, bytes));
    if (status.ok()) co_return static_cast<uint32_t>(bytes);
    if (status.error() != EIO || offset + bytes <= backend_->size()) {
      co_return status;
    }
  }
}

IoResult<int64_t> ExportFile::ClipWrite(uint64_t offset, uint64_t bytes) const {
  if (!backend_->writable()) return IoError(EROFS);
  if (offset > kMaxOffset || bytes > kMaxOffset - offset) return IoError(EFBIG);
  if (backend_->resizable()) return static_cast<int64_t>(bytes);
  const auto size = static_cast<uint64_t>(backend_->size());
  if (offset >= size && bytes > 0) return IoError(ENOSPC);
  return static_cast<int64_t>(std::min(bytes, size - std::min(offset, size)));
}

Task<IoResult<uint32_t>> ExportFile::Write(Exchange* exchange) {
  const fuse_write_in& in = exchange->request.args.write;
  const absl::Span<const char> data = exchange->request.data;
  IoResult<int64_t> clipped = ClipWrite(in.offset, data.size());
  if (!clipped.ok()) co_return clipped.status();
  const auto offset = static_cast<int64_t>(in.offset);
  int64_t bytes = *clipped;
  auto answer = static_cast<uint32_t>(bytes);
  if ((in.write_flags & FUSE_WRITE_CACHE) != 0) {
    // A mapped page on its way out never makes the file longer: it was cut off
    // behind the kernel's back if it lies past the end.
    const int64_t room = std::max<int64_t>(0, backend_->size() - offset);
    bytes = std::min(bytes, room);
    answer = in.size;
  }
  if (bytes == 0) co_return exchange->Put(fuse_write_out{answer, 0});
  std::optional<OwnResize> own;
  if (offset + bytes > backend_->size()) own.emplace(this);
  // The kernel sends no fsync for O_SYNC, O_DSYNC and RWF_DSYNC.
  const RequestFlags flags = (in.flags & O_DSYNC) != 0 ? kFua : 0;
  const IoStatus status =
      co_await backend_->Write(offset, IoView(data.data(), bytes), flags);
  if (status.ok() && own) KernelSawEnd(offset + bytes);
  TouchModified();
  if (!status.ok()) co_return status;
  co_return exchange->Put(fuse_write_out{answer, 0});
}

Task<IoResult<uint32_t>> ExportFile::Sync() {
  BGFS_CO_TRY(co_await backend_->Flush());
  co_return 0;
}

// Within one file only: the kernel passes no other copy on.
Task<IoResult<uint32_t>> ExportFile::CopyFileRange(Exchange* exchange) {
  const fuse_copy_file_range_in& in = exchange->request.args.copy_file_range;
  if (in.nodeid_out != node_id()) co_return IoError(EXDEV);
  if (in.flags != 0 || in.off_in > kMaxOffset) co_return IoError(EINVAL);
  const auto from = static_cast<int64_t>(in.off_in);
  const int64_t left = std::max<int64_t>(0, backend_->size() - from);
  const auto wanted = static_cast<int64_t>(
      std::min<uint64_t>(in.len, std::min(left, kMaxCopyBytes)));
  IoResult<int64_t> clipped =
      ClipWrite(in.off_out, static_cast<uint64_t>(wanted));
  if (!clipped.ok()) co_return clipped.status();
  const auto to = static_cast<int64_t>(in.off_out);
  const int64_t bytes = *clipped;
  if (bytes > 0 && std::max(from, to) < std::min(from, to) + bytes) {
    co_return IoError(EINVAL);  // the ranges overlap
  }
  BGFS_CO_TRY(co_await CopyBytes(from, to, bytes));
  if (exchange->request.opcode == kOpCopyFileRange64) {
    co_return exchange->Put(CopyFileRangeOut{static_cast<uint64_t>(bytes)});
  }
  co_return exchange->Put(fuse_write_out{static_cast<uint32_t>(bytes), 0});
}

Task<IoStatus> ExportFile::CopyBytes(int64_t from, int64_t to, int64_t bytes) {
  if (bytes == 0) co_return IoStatus();
  const OwnResize own(this);
  const IoStatus copied =
      co_await backend_->CopyRange(from, *backend_, to, bytes);
  TouchModified();
  if (copied.ok()) KernelSawEnd(to + bytes);
  co_return copied;
}

}  // namespace bgfs::fuse
