#include "graph/async/host_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "graph/async/lock_holders.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

namespace bgfs {
namespace {

// From here on a copy takes longer than handing it over: what copy on write
// writes for a cluster, too.
constexpr int64_t kLargeCopy = int64_t{64} << 10;
// An inline write that took longer says that the disk is throttling; a thread
// that merely lost its CPU is back sooner.
constexpr int64_t kSlowWriteNs = 3000000;

bool IsLocal(int fd) {
  struct statfs fs{};
  if (fstatfs(fd, &fs) != 0) return false;
  switch (static_cast<uint32_t>(fs.f_type)) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
      return true;
    default:
      return false;
  }
}

// The kernel's own struct: glibc 2.36 has no stx_dio_* members (Linux 6.1).
struct DirectAlignment {
  int64_t offset = 0;
  int64_t memory = 0;
};

DirectAlignment QueryDirectAlignment(int fd, const struct stat& info) {
  struct statx extended{};
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &extended) ==
          0 &&
      (extended.stx_mask & STATX_DIOALIGN) != 0 &&
      extended.stx_dio_offset_align != 0) {
    return {extended.stx_dio_offset_align, extended.stx_dio_mem_align};
  }
  if (S_ISBLK(info.st_mode)) {
    int sector = 0;
    if (ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0) {
      return {sector, sector};
    }
  }
  return {4096, 4096};
}

IoStatus LastError() { return IoError(errno); }

// F_RDLCK, F_WRLCK or F_UNLCK of one byte.
struct flock LockOf(int type, int64_t byte) {
  struct flock lock{};
  lock.l_type = static_cast<decltype(lock.l_type)>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

// What a system call returned, as a FileOp has it.
int64_t ResultOf(int64_t returned) { return returned >= 0 ? returned : -errno; }

// Lists the pieces of a view that has several; gives how many.
int ListPieces(FileOp* op) {
  op->pieces.clear();
  op->view.AppendTo(&op->pieces);
  return std::min<int>(static_cast<int>(op->pieces.size()), IOV_MAX);
}

ssize_t ReadNow(int fd, FileOp* op, int flags) {
  if (op->view.contiguous()) {
    const iovec piece{op->view.data(), static_cast<size_t>(op->bytes)};
    return preadv2(fd, &piece, 1, op->offset, flags);
  }
  const int count = ListPieces(op);
  return preadv2(fd, op->pieces.data(), count, op->offset, flags);
}

ssize_t WriteNow(int fd, FileOp* op) {
  if (op->view.contiguous()) {
    return pwrite(fd, op->view.data(), static_cast<size_t>(op->bytes),
                  op->offset);
  }
  const int count = ListPieces(op);
  return pwritev(fd, op->pieces.data(), count, op->offset);
}

}  // namespace

HostFile::OpenResult HostFile::OpenNow(const std::string& path,
                                       OpenOptions options) {
  OpenResult result;
  struct stat info{};
  // A FIFO would block in open(2).
  if (stat(path.c_str(), &info) != 0) {
    result.error = errno;
    return result;
  }
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    result.error = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    return result;
  }
  const int flags = (options.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC |
                    (options.direct ? O_DIRECT : 0);
  result.fd = open(path.c_str(), flags);
  if (result.fd < 0) {
    result.error = errno;
    return result;
  }
  result.local = S_ISREG(info.st_mode) && IsLocal(result.fd);
  return result;
}

HostFile::~HostFile() { close(fd_); }

bool HostFile::Start(FileOp* op) {
  switch (op->kind) {
    case FileOp::Kind::kRead:
      return StartRead(op);
    case FileOp::Kind::kWrite:
      return StartWrite(op);
    default:
      Submit(op, /*blocks=*/true);
      return false;
  }
}

bool HostFile::StartRead(FileOp* op) {
  if (!try_nowait_) {
    Submit(op, /*blocks=*/op->bytes >= kLargeCopy && !direct_);
    return false;
  }
  if (BelongsInLane(*op, read_lane_)) {
    read_lane_.Add(
        [this, op] { op->result = ResultOf(ReadNow(fd_, op, RWF_NOWAIT)); },
        [this, op] {
          if (op->result >= 0) return op->waiter.resume();
          Submit(op, /*blocks=*/true);
        });
    return false;
  }
  const ssize_t count = ReadNow(fd_, op, RWF_NOWAIT);
  if (count >= 0) {
    op->result = count;
    return true;
  }
  if (errno == EOPNOTSUPP) try_nowait_ = false;
  Submit(op, /*blocks=*/op->bytes >= kLargeCopy);
  return false;
}

bool HostFile::StartWrite(FileOp* op) {
  if (!local_ || direct_) {
    Submit(op, /*blocks=*/!direct_);
    return false;
  }
  if (lane_writes_ == 0 && !BelongsInLane(*op, write_lane_)) {
    return WriteInline(op);
  }
  if (lane_writes_ > 0) --lane_writes_;
  write_lane_.Add([this, op] { op->result = Perform(op); },
                  [op] { op->waiter.resume(); });
  return false;
}

// A large copy of which there are others: in the lane, or before it in this
// turn of the loop. Alone it would only be done later by another thread.
bool HostFile::BelongsInLane(const FileOp& op, const CopyLane& lane) {
  if (op.bytes < kLargeCopy) return false;
  const bool second = large_turn_ == loop_->turn();
  large_turn_ = loop_->turn();
  return second || lane.busy();
}

bool HostFile::WriteInline(FileOp* op) {
  const int64_t begin = loop_->NowNs();
  op->result = ResultOf(WriteNow(fd_, op));
  if (loop_->NowNs() - begin > kSlowWriteNs) {
    lane_writes_ = next_lane_writes_;
    next_lane_writes_ = std::min(2 * next_lane_writes_, kMaxLaneWrites);
  } else {
    next_lane_writes_ = kMinLaneWrites;
  }
  return true;
}

int64_t HostFile::Perform(FileOp* op) const {
  switch (op->kind) {
    case FileOp::Kind::kRead:
      return ResultOf(ReadNow(fd_, op, 0));
    case FileOp::Kind::kWrite:
      return ResultOf(WriteNow(fd_, op));
    case FileOp::Kind::kSync:
      return ResultOf(fsync(fd_));
    case FileOp::Kind::kDataSync:
      return ResultOf(fdatasync(fd_));
    case FileOp::Kind::kAllocate:
      return ResultOf(fallocate(fd_, op->mode, op->offset, op->bytes));
    case FileOp::Kind::kTruncate:
      return ResultOf(ftruncate(fd_, op->bytes));
    case FileOp::Kind::kCopyRange: {
      loff_t from = op->source_offset;
      loff_t to = op->offset;
      const int source = static_cast<const HostFile*>(op->source)->fd_;
      return ResultOf(copy_file_range(source, &from, fd_, &to,
                                      static_cast<size_t>(op->bytes), 0));
    }
  }
  BGFS_CHECK(false);
}

Task<IoResult<FileInfo>> HostFile::Stat() {
  struct stat info{};
  int error = 0;
  FileInfo result;
  const int fd = fd_;
  const bool direct = direct_;
  co_await loop_->Run(
      Loop::Offload::kBlocking, [&info, &error, &result, fd, direct] {
        if (fstat(fd, &info) != 0) {
          error = errno;
          return;
        }
        result.size = info.st_size;
        if (S_ISBLK(info.st_mode)) {
          uint64_t bytes = 0;
          if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) error = errno;
          result.size = static_cast<int64_t>(bytes);
        }
        if (direct) {
          const DirectAlignment alignment = QueryDirectAlignment(fd, info);
          result.request_alignment = alignment.offset;
          result.memory_alignment = alignment.memory;
        }
      });
  if (error != 0) co_return IoError(error);
  result.type = S_ISREG(info.st_mode)   ? FileInfo::Type::kRegular
                : S_ISBLK(info.st_mode) ? FileInfo::Type::kBlockDevice
                                        : FileInfo::Type::kOther;
  result.allocated_bytes =
      S_ISBLK(info.st_mode) ? result.size : int64_t{info.st_blocks} * 512;
  result.optimal_io = std::max<int64_t>(4096, info.st_blksize);
  result.modified_ns =
      int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  result.device = info.st_dev;
  result.inode = info.st_ino;
  co_return result;
}

Task<IoResult<int64_t>> HostFile::Seek(int64_t offset, int whence) {
  off_t found = 0;
  int error = 0;
  const int fd = fd_;
  auto seek = [&found, &error, fd, offset, whence] {
    found = lseek(fd, offset, whence);
    if (found < 0) error = errno;
  };
  if (local_) {
    seek();
  } else {
    co_await loop_->Run(Loop::Offload::kBlocking, seek);
  }
  if (error != 0) co_return IoError(error);
  co_return int64_t{found};
}

Task<IoResult<int64_t>> HostFile::SeekData(int64_t offset) {
  return Seek(offset, SEEK_DATA);
}

Task<IoResult<int64_t>> HostFile::SeekHole(int64_t offset) {
  return Seek(offset, SEEK_HOLE);
}

IoStatus HostFile::LockShared(int64_t byte) {
  struct flock lock = LockOf(F_RDLCK, byte);
  if (fcntl(fd_, F_OFD_SETLK, &lock) == 0) return IoStatus();
  return errno == EACCES ? IoError(EAGAIN) : LastError();
}

IoStatus HostFile::Unlock(int64_t byte) {
  struct flock lock = LockOf(F_UNLCK, byte);
  return fcntl(fd_, F_OFD_SETLK, &lock) == 0 ? IoStatus() : LastError();
}

IoResult<bool> HostFile::WouldConflict(int64_t byte) {
  struct flock lock = LockOf(F_WRLCK, byte);
  if (fcntl(fd_, F_OFD_GETLK, &lock) != 0) return LastError();
  return lock.l_type != F_UNLCK;
}

std::string HostFile::DescribeLockHolders() {
  return DescribeHoldersOfLocks(fd_);
}

}  // namespace bgfs
