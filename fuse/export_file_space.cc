// Space of an export's file: fallocate, and where data and holes are.

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "fuse/export_file.h"

namespace bgfs::fuse {
namespace {

constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();

// A seek goes on so long before others get their turn.
constexpr int64_t kSeekTurnNs = 1'000'000;

constexpr uint32_t kPunchHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr uint32_t kZeroRangeKeepSize =
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

}  // namespace

Task<IoResult<uint32_t>> ExportFile::Allocate(Exchange* exchange) {
  const fuse_fallocate_in& in = exchange->request.args.fallocate;
  if (!backend_->writable()) co_return IoError(EROFS);
  if (in.length == 0) co_return IoError(EINVAL);
  if (in.offset > kMaxOffset || in.length > kMaxOffset - in.offset) {
    co_return IoError(EFBIG);
  }
  const auto offset = static_cast<int64_t>(in.offset);
  auto bytes = static_cast<int64_t>(in.length);
  if (in.mode != 0 && in.mode != FALLOC_FL_KEEP_SIZE && in.mode != kPunchHole &&
      in.mode != FALLOC_FL_ZERO_RANGE && in.mode != kZeroRangeKeepSize) {
    co_return IoError(EOPNOTSUPP);
  }
  const int64_t left = std::max<int64_t>(0, backend_->size() - offset);
  if ((in.mode & FALLOC_FL_KEEP_SIZE) != 0) {
    bytes = std::min(bytes, left);
    if (bytes == 0) co_return 0;
  } else if (bytes > left && !backend_->resizable()) {
    co_return IoError(ENOSPC);
  }
  const OwnResize own(this);
  const IoStatus status = co_await AllocateRange(offset, bytes, in.mode);
  TouchModified();
  if (!status.ok()) co_return status;
  if ((in.mode & FALLOC_FL_KEEP_SIZE) == 0) KernelSawEnd(offset + bytes);
  co_return 0;
}

Task<IoStatus> ExportFile::AllocateRange(int64_t offset, int64_t bytes,
                                         uint32_t mode) {
  switch (mode) {
    case kPunchHole:
      return backend_->Zero(offset, bytes, kMayUnmap);
    case FALLOC_FL_ZERO_RANGE:
    case kZeroRangeKeepSize:
      return backend_->Zero(offset, bytes);
    default:
      return ReserveRange(offset, bytes);
  }
}

// What lies past the end is reserved by growing the file.
Task<IoStatus> ExportFile::ReserveRange(int64_t offset, int64_t bytes) {
  const int64_t end = offset + bytes;
  const int64_t inside = std::min(end, backend_->size()) - offset;
  if (inside > 0) BGFS_CO_TRY(co_await backend_->Reserve(offset, inside));
  if (end > backend_->size()) {
    BGFS_CO_TRY(co_await backend_->Truncate(end, /*exact=*/false,
                                            Preallocation::kFalloc));
  }
  co_return IoStatus();
}

Task<IoResult<uint32_t>> ExportFile::Seek(Exchange* exchange) {
  const fuse_lseek_in& in = exchange->request.args.lseek;
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) {
    co_return IoError(EINVAL);
  }
  if (in.offset > kMaxOffset) co_return IoError(ENXIO);
  IoResult<int64_t> found =
      co_await SeekFrom(static_cast<int64_t>(in.offset), in.whence);
  if (!found.ok()) co_return found.status();
  co_return exchange->Put(fuse_lseek_out{static_cast<uint64_t>(*found)});
}

// ENXIO at or past the end, and when no data follows; the end is a hole. What
// cannot be looked through in time (an image may map 2 EiB in small pieces, and
// the caller cannot be killed meanwhile) counts as data.
Task<IoResult<int64_t>> ExportFile::SeekFrom(int64_t offset, uint32_t whence) {
  if (offset >= backend_->size()) co_return IoError(ENXIO);
  Loop* const loop = Loop::Current();
  const int64_t give_up = loop->NowNs() + seek_limit_ns_;
  int64_t turn_ends = loop->NowNs() + kSeekTurnNs;
  while (offset < backend_->size()) {
    IoResult<BlockStatus> status =
        co_await backend_->Status(offset, backend_->size() - offset);
    if (!status.ok()) {
      if (offset >= backend_->size()) break;  // it shrank meanwhile
      co_return status.status();
    }
    const bool zero = (status->flags & BlockStatus::kZero) != 0;
    if (zero == (whence == SEEK_HOLE)) co_return offset;
    offset += status->bytes;
    const int64_t now = loop->NowNs();
    if (now >= give_up && offset < backend_->size()) {
      co_return whence == SEEK_DATA ? offset : backend_->size();
    }
    if (now >= turn_ends) {
      co_await loop->Yield();
      turn_ends = loop->NowNs() + kSeekTurnNs;
    }
  }
  if (whence == SEEK_DATA) co_return IoError(ENXIO);
  co_return backend_->size();
}

}  // namespace bgfs::fuse
