#include "graph/async/uring_file.h"

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

#include "graph/async/lock_holders.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

namespace bgfs {
namespace {

// Reads from here on share the CPU with whoever submits them unless io-wq does
// the copying; smaller ones are cheaper inline.
constexpr int64_t kLargeRead = int64_t{64} << 10;
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

}  // namespace

UringFile::OpenResult UringFile::OpenNow(const std::string& path,
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

UringFile::~UringFile() { close(fd_); }

bool UringFile::Start(FileOp* op) {
  switch (op->kind) {
    case FileOp::Kind::kRead:
      return StartRead(op);
    case FileOp::Kind::kWrite:
      return StartWrite(op);
    case FileOp::Kind::kSync:
    case FileOp::Kind::kDataSync: {
      io_uring_sqe* sqe = loop_->NewSqe(op);
      sqe->opcode = IORING_OP_FSYNC;
      sqe->fd = fd_;
      sqe->fsync_flags =
          op->kind == FileOp::Kind::kDataSync ? IORING_FSYNC_DATASYNC : 0;
      return false;
    }
    case FileOp::Kind::kAllocate: {
      io_uring_sqe* sqe = loop_->NewSqe(op);
      sqe->opcode = IORING_OP_FALLOCATE;
      sqe->fd = fd_;
      sqe->off = static_cast<uint64_t>(op->offset);
      sqe->addr = static_cast<uint64_t>(op->bytes);
      sqe->len = static_cast<unsigned>(op->mode);
      return false;
    }
    case FileOp::Kind::kTruncate:
      // IORING_OP_FTRUNCATE came with Linux 6.9; a thread does on all.
      loop_->StartOffload(
          Loop::Offload::kBlocking,
          [this, op] {
            op->result = ftruncate(fd_, op->bytes) == 0 ? 0 : -errno;
          },
          op);
      return false;
    case FileOp::Kind::kCopyRange:
      loop_->StartOffload(
          Loop::Offload::kBlocking,
          [this, op] {
            loff_t from = op->source_offset;
            loff_t to = op->offset;
            const ssize_t count =
                copy_file_range(static_cast<UringFile*>(op->source)->fd_, &from,
                                fd_, &to, static_cast<size_t>(op->bytes), 0);
            op->result = count >= 0 ? count : -errno;
          },
          op);
      return false;
  }
  BGFS_CHECK(false);
}

bool UringFile::StartRead(FileOp* op) {
  const bool large = op->bytes >= kLargeRead;
  if (try_nowait_ && !large) {
    ssize_t count = 0;
    if (op->view.contiguous()) {
      const iovec piece{op->view.data(), static_cast<size_t>(op->bytes)};
      count = preadv2(fd_, &piece, 1, op->offset, RWF_NOWAIT);
    } else {
      op->pieces.clear();
      op->view.AppendTo(&op->pieces);
      count = preadv2(fd_, op->pieces.data(),
                      std::min<int>(static_cast<int>(op->pieces.size()), 1024),
                      op->offset, RWF_NOWAIT);
    }
    if (count >= 0) {
      op->result = count;
      return true;
    }
    if (errno == EOPNOTSUPP) try_nowait_ = false;
  }
  SubmitTransfer(op, op->view.contiguous() ? IORING_OP_READ : IORING_OP_READV,
                 large && !direct_);
  return false;
}

bool UringFile::StartWrite(FileOp* op) {
  if (local_ && !direct_ && ring_writes_ == 0) return WriteInline(op);
  if (ring_writes_ > 0) --ring_writes_;
  SubmitTransfer(op, op->view.contiguous() ? IORING_OP_WRITE : IORING_OP_WRITEV,
                 !direct_);
  return false;
}

bool UringFile::WriteInline(FileOp* op) {
  const int64_t begin = loop_->NowNs();
  ssize_t count = 0;
  if (op->view.contiguous()) {
    count = pwrite(fd_, op->view.data(), static_cast<size_t>(op->bytes),
                   op->offset);
  } else {
    op->pieces.clear();
    op->view.AppendTo(&op->pieces);
    count = pwritev(fd_, op->pieces.data(),
                    std::min<int>(static_cast<int>(op->pieces.size()), 1024),
                    op->offset);
  }
  op->result = count >= 0 ? count : -errno;
  if (loop_->NowNs() - begin > kSlowWriteNs) {
    ring_writes_ = next_ring_writes_;
    next_ring_writes_ = std::min(2 * next_ring_writes_, kMaxRingWrites);
  } else {
    next_ring_writes_ = kMinRingWrites;
  }
  return true;
}

void UringFile::SubmitTransfer(FileOp* op, int opcode, bool async) {
  io_uring_sqe* sqe = loop_->NewSqe(op);
  sqe->opcode = static_cast<uint8_t>(opcode);
  sqe->fd = fd_;
  sqe->off = static_cast<uint64_t>(op->offset);
  if (async) sqe->flags |= IOSQE_ASYNC;
  if (op->view.contiguous()) {
    sqe->addr = reinterpret_cast<uint64_t>(op->view.data());
    sqe->len =
        static_cast<unsigned>(std::min<int64_t>(op->bytes, int64_t{1} << 30));
    return;
  }
  op->pieces.clear();
  op->view.AppendTo(&op->pieces);
  sqe->addr = reinterpret_cast<uint64_t>(op->pieces.data());
  sqe->len = static_cast<unsigned>(std::min<size_t>(op->pieces.size(), 1024));
}

Task<IoResult<FileInfo>> UringFile::Stat() {
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
  result.device = info.st_dev;
  result.inode = info.st_ino;
  co_return result;
}

Task<IoResult<int64_t>> UringFile::Seek(int64_t offset, int whence) {
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

Task<IoResult<int64_t>> UringFile::SeekData(int64_t offset) {
  return Seek(offset, SEEK_DATA);
}

Task<IoResult<int64_t>> UringFile::SeekHole(int64_t offset) {
  return Seek(offset, SEEK_HOLE);
}

IoStatus UringFile::LockShared(int64_t byte) {
  struct flock lock{};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  if (fcntl(fd_, F_OFD_SETLK, &lock) == 0) return IoStatus();
  return errno == EACCES ? IoError(EAGAIN) : LastError();
}

IoStatus UringFile::Unlock(int64_t byte) {
  struct flock lock{};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd_, F_OFD_SETLK, &lock) == 0 ? IoStatus() : LastError();
}

IoResult<bool> UringFile::WouldConflict(int64_t byte) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  if (fcntl(fd_, F_OFD_GETLK, &lock) != 0) return LastError();
  return lock.l_type != F_UNLCK;
}

std::string UringFile::DescribeLockHolders() {
  return DescribeHoldersOfLocks(fd_);
}

}  // namespace bgfs
