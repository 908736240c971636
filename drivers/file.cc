#include "drivers/file.h"

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/quote.h"
#include "graph/async/buffer.h"

namespace bgfs {
namespace {

// A direct transfer may stop in the middle of a block; that many times in a row
// without one whole block done, it is an error.
constexpr int kMaxStops = 16;
// Zeros written at once by a full preallocation.
constexpr int64_t kZerosBytes = int64_t{1} << 20;

}  // namespace

// --- Opening and closing -----------------------------------------------------

Task<absl::Status> FileDriver::Open() {
  if (options_.force_share && !node().read_only()) {
    co_return absl::InvalidArgumentError(
        absl::StrCat(Quote(options_.filename),
                     ": force_share goes with reading only; make the node "
                     "read_only, or drop force_share"));
  }
  if (absl::Status opened = co_await OpenFiles(); !opened.ok()) {
    co_return opened;
  }
  const IoResult<FileInfo> info = co_await file_->Stat();
  if (!info.ok()) {
    co_return info.status().ToStatus(Quote(options_.filename));
  }
  if (info->size > kMaxNodeBytes) {
    co_return absl::InvalidArgumentError(
        absl::StrCat(Quote(options_.filename), " has ", info->size,
                     " bytes; an image has at most ", kMaxNodeBytes));
  }
  block_device_ = info->type == FileInfo::Type::kBlockDevice;
  alignment_ = info->request_alignment;
  memory_alignment_ = info->memory_alignment;
  optimal_io_ = info->optimal_io;
  device_ = info->device;
  inode_ = info->inode;
  if (predecessor_ != nullptr &&
      (predecessor_->device() != device_ || predecessor_->inode() != inode_)) {
    predecessor_ = nullptr;
  }
  lock_ = std::make_unique<ImageLock>(
      file_.get(), options_.filename,
      options_.force_share ? proto::Locking::OFF : options_.locking,
      options_.warn);
  node().SetSize(info->size);
  node().RefreshLimits();
  co_return absl::OkStatus();
}

Task<absl::Status> FileDriver::OpenFiles() {
  OpenOptions options;
  options.writable = !node().read_only();
  IoResult<std::unique_ptr<File>> opened =
      co_await node().home().Open(options_.filename, options);
  if (!opened.ok())
    co_return CannotOpen(options_.filename, options.writable, opened.status());
  file_ = *std::move(opened);
  if (!options_.direct) co_return absl::OkStatus();
  buffered_ = std::move(file_);
  options.direct = true;
  opened = co_await node().home().Open(options_.filename, options);
  if (opened.error() == EINVAL) {
    co_return absl::InvalidArgumentError(
        absl::StrCat(Quote(options_.filename),
                     ": its file system cannot bypass the page cache; drop "
                     "cache { direct: true }"));
  }
  if (!opened.ok())
    co_return CannotOpen(options_.filename, options.writable, opened.status());
  file_ = *std::move(opened);
  co_return absl::OkStatus();
}

absl::Status FileDriver::CannotOpen(absl::string_view filename, bool writing,
                                    IoStatus status) {
  absl::string_view advice;
  switch (status.error()) {
    case ENOENT:
    case ENOTDIR:
      advice = "; check the name";
      break;
    case EACCES:
    case EPERM:
      advice = writing ? "; change its permissions, or open it read-only"
                       : "; change its permissions";
      break;
    case EROFS:
      advice = "; open it read-only";
      break;
    case EISDIR:
    case EINVAL:
      advice = "; an image is a regular file or a block device";
      break;
    case EMFILE:
    case ENFILE:
      advice = "; raise the limit of open files (ulimit -n)";
      break;
    default:
      break;
  }
  const absl::Status plain =
      status.ToStatus(absl::StrCat("cannot open ", Quote(filename),
                                   writing ? " for writing" : " for reading"));
  return absl::Status(plain.code(), absl::StrCat(plain.message(), advice));
}

Task<void> FileDriver::Close() {
  lock_.reset();
  buffered_.reset();
  file_.reset();
  co_return;
}

// --- Data --------------------------------------------------------------------

Task<IoStatus> FileDriver::ReadFrom(File& file, int64_t offset, IoView data) {
  for (int64_t done = 0; done < data.size();) {
    const IoView rest = data.Slice(done, data.size() - done);
    const int64_t count = co_await file.Read(offset + done, rest);
    if (count == -EINTR) continue;
    if (count < 0) co_return IoError(static_cast<int>(-count));
    if (count == 0) {
      rest.Zero();
      break;
    }
    done += count;
  }
  co_return IoStatus();
}

Task<IoStatus> FileDriver::WriteTo(File& file, int64_t offset, IoView data,
                                   int64_t alignment) {
  int stops = 0;
  for (int64_t done = 0; done < data.size();) {
    const int64_t count = co_await file.Write(
        offset + done, data.Slice(done, data.size() - done));
    if (count == -EINTR) continue;
    if (count < 0) co_return IoError(static_cast<int>(-count));
    const int64_t blocks = AlignDown(count, alignment);
    stops = blocks == 0 ? stops + 1 : 0;
    if (stops > kMaxStops) co_return IoError(EIO);
    done += blocks;
  }
  co_return IoStatus();
}

Task<IoStatus> FileDriver::Read(Request&, int64_t offset, IoView data) {
  if (buffered_ == nullptr) return ReadFrom(*file_, offset, data);
  return ReadDirect(offset, data);
}

Task<IoStatus> FileDriver::ReadDirect(int64_t offset, IoView data) {
  const int64_t inside = std::min(data.size(), node().size() - offset);
  const int64_t end = AlignDown(inside, alignment_);
  int64_t done = 0;
  while (done < end) {
    const int64_t count =
        co_await file_->Read(offset + done, data.Slice(done, end - done));
    if (count == -EINTR) continue;
    if (count < 0) co_return IoError(static_cast<int>(-count));
    const int64_t blocks = AlignDown(count, alignment_);
    if (blocks == 0) break;  // the file was cut short
    done += blocks;
  }
  co_return co_await ReadFrom(*buffered_, offset + done,
                              data.Slice(done, data.size() - done));
}

Task<IoStatus> FileDriver::Write(Request&, int64_t offset, IoView data) {
  if (data.size() % alignment_ == 0) {
    return WriteTo(*file_, offset, data, alignment_);
  }
  return WriteWithTail(offset, data);
}

Task<IoStatus> FileDriver::WriteWithTail(int64_t offset, IoView data) {
  const int64_t blocks = AlignDown(data.size(), alignment_);
  BGFS_CO_TRY(
      co_await WriteTo(*file_, offset, data.Slice(0, blocks), alignment_));
  co_return co_await WriteTo(*buffered_, offset + blocks,
                             data.Slice(blocks, data.size() - blocks), 1);
}

// --- Copies ------------------------------------------------------------------

Task<IoStatus> FileDriver::CopyRangeFrom(Request& request, int64_t offset,
                                         int64_t bytes, CopyTarget target) {
  if (!BufferedRegular()) co_return IoError(ENOTSUP);
  co_return co_await target.edge->CopyRangeTo(&request, target.offset, bytes,
                                              {this, offset}, target.flags);
}

Task<IoStatus> FileDriver::CopyRangeTo(Request&, int64_t offset, int64_t bytes,
                                       CopySource source) {
  auto* from = dynamic_cast<FileDriver*>(source.leaf);
  if (from == nullptr || !BufferedRegular()) co_return IoError(ENOTSUP);
  for (int64_t done = 0; done < bytes;) {
    const int64_t count = co_await file_->CopyFrom(
        *from->file_, source.offset + done, offset + done, bytes - done);
    switch (count) {
      case -EINTR:
        continue;
      case 0:  // something cut the source short: it reads as zeros
      case -EXDEV:
      case -EINVAL:
      case -EOPNOTSUPP:
      case -ENOSYS:
        co_return IoError(ENOTSUP);
      default:
        break;
    }
    if (count < 0) co_return IoError(static_cast<int>(-count));
    done += count;
  }
  co_return IoStatus();
}

// --- Space -------------------------------------------------------------------

Task<IoStatus> FileDriver::Allocate(int mode, int64_t offset, int64_t bytes,
                                    bool* supported) {
  if (!*supported) co_return IoError(ENOTSUP);
  int64_t result = -EINTR;
  while (result == -EINTR) {
    result = co_await file_->Allocate(mode, offset, bytes);
  }
  if (result == -EOPNOTSUPP || result == -ENOSYS) *supported = false;
  // A block device takes whole sectors only.
  if (!*supported || (result == -EINVAL && block_device_)) {
    co_return IoError(ENOTSUP);
  }
  co_return result < 0 ? IoError(static_cast<int>(-result)) : IoStatus();
}

Task<IoStatus> FileDriver::Zero(Request&, int64_t offset, int64_t bytes,
                                RequestFlags flags) {
  if ((flags & kMayUnmap) != 0) {
    const IoStatus status = co_await Allocate(
        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, &can_punch_);
    if (status.error() != ENOTSUP) co_return status;
  }
  co_return co_await Allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                              offset, bytes, &can_zero_range_);
}

Task<IoStatus> FileDriver::Discard(Request&, int64_t offset, int64_t bytes) {
  return Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes,
                  &can_punch_);
}

Task<IoStatus> FileDriver::Reserve(Request&, int64_t offset, int64_t bytes) {
  return Allocate(FALLOC_FL_KEEP_SIZE, offset, bytes, &can_reserve_);
}

// --- Size --------------------------------------------------------------------

Task<IoStatus> FileDriver::SetFileSize(int64_t size_bytes) {
  int64_t result = -EINTR;
  while (result == -EINTR) result = co_await file_->Truncate(size_bytes);
  co_return result < 0 ? IoError(static_cast<int>(-result)) : IoStatus();
}

Task<IoStatus> FileDriver::Truncate(Request&, int64_t size_bytes,
                                    Preallocation preallocation) {
  const int64_t old_size = node().size();
  if (block_device_) {
    co_return size_bytes == old_size ? IoStatus() : IoError(ENOTSUP);
  }
  if (preallocation == Preallocation::kMetadata) co_return IoError(ENOTSUP);
  BGFS_CO_TRY(co_await SetFileSize(size_bytes));
  if (size_bytes <= old_size || preallocation == Preallocation::kOff) {
    co_return IoStatus();
  }
  co_return co_await Preallocate(old_size, size_bytes, preallocation);
}

Task<IoStatus> FileDriver::Preallocate(int64_t from, int64_t to,
                                       Preallocation how) {
  if (how == Preallocation::kFalloc) {
    co_return co_await Allocate(0, from, to - from, &can_reserve_);
  }
  AlignedBuffer zeros =
      AlignedBuffer::Allocate(std::min(kZerosBytes, to - from));
  if (!zeros) co_return IoError(ENOMEM);
  std::memset(zeros.data(), 0, static_cast<size_t>(zeros.size()));
  File& file = buffered_ != nullptr ? *buffered_ : *file_;
  while (from < to) {
    const int64_t bytes = std::min(zeros.size(), to - from);
    BGFS_CO_TRY(co_await WriteTo(file, from, zeros.view(0, bytes), 1));
    from += bytes;
  }
  co_return IoStatus();
}

// --- The rest ----------------------------------------------------------------

Task<IoStatus> FileDriver::FlushToDisk() {
  if (!failed_flush_.ok()) co_return IoError(EIO);
  int64_t result = -EINTR;
  while (result == -EINTR) result = co_await file_->DataSync();
  if (result >= 0) co_return IoStatus();
  const int error = static_cast<int>(-result);
  failed_flush_ = IoError(error);
  if (options_.warn) {
    options_.warn(absl::StrCat(
        Quote(options_.filename), ": writing to the disk failed (",
        std::strerror(error),
        "); what was written since the last flush may be lost, and every flush "
        "will fail until the file is opened again"));
  }
  co_return IoError(error);
}

void FileDriver::AddStatistics(DriverStatistics* statistics) const {
  statistics->failed_flush = failed_flush_;
}

Task<IoResult<BlockStatus>> FileDriver::Status(Request&, int64_t offset,
                                               int64_t bytes, bool precise) {
  BlockStatus status;
  status.flags =
      BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw;
  status.bytes = bytes;
  status.file = &node();
  status.file_offset = offset;
  if (!precise) co_return status;
  int64_t end = offset + bytes;
  const IoResult<int64_t> data = co_await file_->SeekData(offset);
  if (data.ok() && *data == offset) {
    const IoResult<int64_t> hole = co_await file_->SeekHole(offset);
    // All of it, also past the end of the range: the engine remembers it.
    if (hole.ok() && *hole > offset) end = *hole;
  } else if (data.error() == ENXIO || (data.ok() && *data > offset)) {
    if (data.ok()) end = std::min(end, *data);
    status.flags &= ~BlockStatus::kData;
    status.flags |= BlockStatus::kZero;
  }
  status.bytes = end - offset;
  co_return status;
}

Task<IoResult<Range>> FileDriver::ChangeWindow(const Request& request) {
  const int64_t tail = AlignDown(node().size(), alignment_);
  if (buffered_ == nullptr || request.range().end() <= tail) co_return Range{};
  const int64_t page = std::max<int64_t>(alignment_, getpagesize());
  co_return request.range().Union({tail, alignment_}).AlignedTo(page);
}

Task<IoResult<int64_t>> FileDriver::AllocatedBytes() {
  const IoResult<FileInfo> info = co_await file_->Stat();
  if (!info.ok()) co_return info.status();
  co_return info->allocated_bytes;
}

HostBytes* FileDriver::host_bytes() {
  return BufferedRegular() ? this : nullptr;
}

void FileDriver::RefreshLimits(Limits* limits) {
  limits->request_alignment = alignment_;
  limits->min_memory_alignment = memory_alignment_;
  limits->opt_memory_alignment = std::max<int64_t>(4096, memory_alignment_);
  limits->opt_transfer = optimal_io_;
  if (block_device_) {
    limits->pwrite_zeroes_alignment = 4096;
    limits->pdiscard_alignment = 4096;
  }
}

absl::Status FileDriver::PreparePermissions(const PermissionSet& users) {
  if (predecessor_ == nullptr) return lock_->Prepare(users);
  return lock_->PrepareToFollow(predecessor_->lock_.get(), users);
}

// Who was let past the engine may still write after the last user here is gone.
// The kernel then has our file open for him, and with it our locks: they stay
// until both have closed it.
void FileDriver::CommitPermissions() {
  node().bypassed() ? lock_->Abort() : lock_->Commit();
  predecessor_ = nullptr;
}

void FileDriver::AbortPermissions() {
  lock_->Abort();
  if (predecessor_ != nullptr) predecessor_->lock_->Abort();
}

// A driver is replaced by one of its kind only.
void FileDriver::Succeed(Driver& predecessor) {
  predecessor_ = static_cast<FileDriver*>(&predecessor);
}

}  // namespace bgfs
