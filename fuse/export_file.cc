#include "fuse/export_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

namespace bgfs::fuse {
namespace {

constexpr int64_t kMinBlockBytes = 4096;
constexpr int64_t kMaxBlockBytes = int64_t{2} << 20;  // a qcow2 cluster
constexpr int64_t kStatBlockBytes = 512;
constexpr uint32_t kMaxNameBytes = 255;
constexpr mode_t kPermissionBits = 07777;
constexpr int64_t kMaxSize = std::numeric_limits<int64_t>::max();

timespec Now() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now;
}

timespec FromNs(int64_t ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  return {.tv_sec = ns / kSecond, .tv_nsec = ns % kSecond};
}

// The size that transfers are best multiples of; loop devices take it for their
// discard granularity.
uint32_t OptimalBlock(const Limits& limits) {
  int64_t block = kMinBlockBytes;
  const int64_t wanted =
      std::max(limits.opt_transfer, limits.pdiscard_alignment);
  while (block < wanted && block < kMaxBlockBytes) block *= 2;
  return static_cast<uint32_t>(block);
}

// One time of SETATTR: given, or now.
void SetTime(const fuse_setattr_in& in, uint32_t given, uint32_t now,
             uint64_t seconds, uint32_t nanoseconds, timespec* time) {
  if ((in.valid & now) != 0) {
    *time = Now();
  } else if ((in.valid & given) != 0) {
    time->tv_sec = static_cast<time_t>(seconds);
    time->tv_nsec = nanoseconds;
  }
}

}  // namespace

ExportFile::ExportFile(uint64_t node_id, Options options, Backend* backend,
                       const Agreement* agreement,
                       absl::AnyInvocable<void()> invalidate)
    : Inode(node_id),
      backend_(backend),
      agreement_(agreement),
      invalidate_(std::move(invalidate)),
      cached_(options.cached),
      passthrough_(options.passthrough),
      seek_limit_ns_(options.seek_limit_ns),
      mode_(options.mode & kPermissionBits),
      uid_(options.uid),
      gid_(options.gid),
      accessed_(Now()),
      modified_(accessed_),
      changed_(accessed_),
      kernel_size_(backend->size()) {}

Task<IoResult<uint32_t>> ExportFile::Serve(Exchange* exchange) {
  if (passthrough_ == nullptr) return ServeNow(exchange);
  return LookAndServe(exchange);
}

Task<IoResult<uint32_t>> ExportFile::LookAndServe(Exchange* exchange) {
  // Attributes() looks itself.
  if (exchange->request.opcode != FUSE_GETATTR) BGFS_CO_TRY(co_await Look());
  co_return co_await ServeNow(exchange);
}

// The kernel knows the size that its own writes have made.
Task<IoStatus> ExportFile::Look() {
  const OwnResize own(this);
  const IoResult<FileInfo> info = co_await backend_->Look();
  if (!info.ok()) co_return info.status();
  kernel_size_ = backend_->size();
  if (info->modified_ns != host_modified_ns_) {
    host_modified_ns_ = info->modified_ns;
    modified_ = changed_ = FromNs(info->modified_ns);
  }
  co_return IoStatus();
}

Task<IoResult<uint32_t>> ExportFile::ServeNow(Exchange* exchange) {
  switch (exchange->request.opcode) {
    case FUSE_READ:
      return Read(exchange);
    case FUSE_WRITE:
      return Write(exchange);
    case FUSE_GETATTR:
      return PutAttributes(exchange);
    case FUSE_SETATTR:
      return SetAttributes(exchange);
    case FUSE_OPEN:
      return Answer(Open(exchange));
    case FUSE_RELEASE:
      return Answer(0);
    case FUSE_FSYNC:
      return Sync();
    case FUSE_FALLOCATE:
      return Allocate(exchange);
    case FUSE_LSEEK:
      return Seek(exchange);
    case FUSE_COPY_FILE_RANGE:
    case kOpCopyFileRange64:
      return CopyFileRange(exchange);
    case FUSE_STATFS:
      return PutFileSystem(exchange);
    case FUSE_IOCTL:
      return Answer(IoError(ENOTTY));
    case FUSE_READLINK:
      return Answer(IoError(EINVAL));
    default:
      return Answer(IoError(ENOTDIR));
  }
}

IoResult<uint32_t> ExportFile::Open(Exchange* exchange) const {
  const uint32_t access = exchange->request.args.open.flags & O_ACCMODE;
  if (access != O_RDONLY && !backend_->writable()) return IoError(EROFS);
  if (passthrough_ != nullptr) {
    const absl::StatusOr<int32_t>& id = passthrough_->BackingId(*agreement_);
    if (!id.ok()) return IoError(EIO);
    return exchange->Put(OpenOut{.handle = 0,
                                 .open_flags = kOpenPassthrough | FOPEN_NOFLUSH,
                                 .backing_id = *id});
  }
  fuse_open_out out = {};
  out.open_flags = cached_ ? FOPEN_KEEP_CACHE | FOPEN_NOFLUSH
                           : agreement_->direct_open_flags;
  return exchange->Put(out);
}

// st_blocks may be 0 only where every byte reads as zero: tar -S and cp take 0
// for a hole. A host that keeps small files in their inodes says 0 as well.
Task<uint64_t> ExportFile::AllocatedBytes() {
  const int64_t size = backend_->size();
  IoResult<int64_t> allocated = co_await backend_->AllocatedBytes();
  if (!allocated.ok()) co_return static_cast<uint64_t>(size);
  if (*allocated <= 0 && size > 0) {
    IoResult<int64_t> data = co_await SeekFrom(0, SEEK_DATA);
    const bool all_zero = !data.ok() && data.error() == ENXIO;
    co_return all_zero ? 0 : uint64_t{kStatBlockBytes};
  }
  co_return static_cast<uint64_t>(std::min(*allocated, size));
}

Task<IoResult<fuse_attr>> ExportFile::Attributes() {
  if (passthrough_ != nullptr) BGFS_CO_TRY(co_await Look());
  const uint64_t allocated = co_await AllocatedBytes();
  fuse_attr out = {};
  out.ino = node_id();
  // Taken last: the reply goes out before the size can change again.
  kernel_size_ = backend_->size();
  out.size = static_cast<uint64_t>(kernel_size_);
  out.blocks = (allocated + kStatBlockBytes - 1) / kStatBlockBytes;
  out.blksize = OptimalBlock(backend_->node().limits());
  out.mode = type_ | mode_;
  out.nlink = 1;
  out.uid = uid_;
  out.gid = gid_;
  out.atime = static_cast<uint64_t>(accessed_.tv_sec);
  out.atimensec = static_cast<uint32_t>(accessed_.tv_nsec);
  out.mtime = static_cast<uint64_t>(modified_.tv_sec);
  out.mtimensec = static_cast<uint32_t>(modified_.tv_nsec);
  out.ctime = static_cast<uint64_t>(changed_.tv_sec);
  out.ctimensec = static_cast<uint32_t>(changed_.tv_nsec);
  co_return out;
}

// A disk of the export's size; what is not allocated counts as free.
Task<IoResult<fuse_kstatfs>> ExportFile::FileSystem() {
  const uint64_t allocated = co_await AllocatedBytes();
  const auto size = static_cast<uint64_t>(backend_->size());
  fuse_kstatfs out = {};
  out.bsize = out.frsize = kMinBlockBytes;
  out.blocks = (size + kMinBlockBytes - 1) / kMinBlockBytes;
  const uint64_t used = (allocated + kMinBlockBytes - 1) / kMinBlockBytes;
  out.bfree = out.bavail = out.blocks - std::min(used, out.blocks);
  out.files = 1;
  out.namelen = kMaxNameBytes;
  co_return out;
}

Task<IoResult<uint32_t>> ExportFile::SetAttributes(Exchange* exchange) {
  const fuse_setattr_in& in = exchange->request.args.setattr;
  if ((in.valid & FATTR_SIZE) != 0) BGFS_CO_TRY(co_await Resize(in.size));
  if ((in.valid & FATTR_MODE) != 0) mode_ = in.mode & kPermissionBits;
  if ((in.valid & FATTR_UID) != 0) uid_ = in.uid;
  if ((in.valid & FATTR_GID) != 0) gid_ = in.gid;
  changed_ = Now();
  SetTime(in, FATTR_ATIME, FATTR_ATIME_NOW, in.atime, in.atimensec, &accessed_);
  SetTime(in, FATTR_MTIME, FATTR_MTIME_NOW, in.mtime, in.mtimensec, &modified_);
  co_return co_await PutAttributes(exchange);
}

// Truncating to the present size is a success everywhere: programs do it.
Task<IoStatus> ExportFile::Resize(uint64_t size_bytes) {
  if (!backend_->writable()) co_return IoError(EROFS);
  if (size_bytes > uint64_t{kMaxSize}) co_return IoError(EFBIG);
  const auto size = static_cast<int64_t>(size_bytes);
  if (size == backend_->size()) co_return IoStatus();
  if (!backend_->resizable()) co_return IoError(EPERM);
  const OwnResize own(this);
  BGFS_CO_TRY(co_await backend_->Truncate(size, /*exact=*/true));
  TouchModified();
  kernel_size_ = size;
  co_return IoStatus();
}

void ExportFile::KernelSawEnd(int64_t end) {
  kernel_size_ = std::max(kernel_size_, end);
}

void ExportFile::TellSize() {
  if (own_resizes_ > 0 || kernel_size_ == backend_->size()) return;
  kernel_size_ = backend_->size();
  invalidate_();
}

void ExportFile::TouchModified() { modified_ = changed_ = Now(); }

}  // namespace bgfs::fuse
