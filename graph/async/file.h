// File: one opened host file (or block device), as a loop's body offers it.
// With Loop it is the seam to the operating system: two bodies run on the
// kernel (host_file.h), the simulated one of the tests on a disk that lies. A
// driver cannot tell them apart.
//
// A file belongs to the loop that opened it and is used on that loop's thread
// only. Data operations behave as the system calls do: a read or a write may be
// short, EINTR may be returned; the file driver deals with both.

#ifndef BGFS_GRAPH_ASYNC_FILE_H_
#define BGFS_GRAPH_ASYNC_FILE_H_

#include <coroutine>
#include <cstdint>
#include <string>

#include "graph/async/io_status.h"
#include "graph/async/io_view.h"
#include "graph/async/task.h"

namespace bgfs {

// Something a loop completes: `result` is what the system call would return,
// or a negative errno. Lives in the frame of the task that waits.
struct Completion {
  int64_t result = 0;
  std::coroutine_handle<> waiter;
};

class File;

struct FileOp : Completion {
  enum class Kind : uint8_t {
    kRead,      // offset, view
    kWrite,     // offset, view
    kSync,      // file data and all metadata
    kDataSync,  // file data and the metadata needed to read it
    kAllocate,  // fallocate(mode, offset, bytes)
    kTruncate,  // ftruncate(bytes)
    // copy_file_range() of `bytes` from source_offset of `source`, a file of
    // the same loop
    kCopyRange,
  };
  Kind kind = Kind::kRead;
  int mode = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
  File* source = nullptr;
  int64_t source_offset = 0;
  IoView view;
  IovecList pieces;  // filled by the body when the view has several
};

struct FileInfo {
  enum class Type : uint8_t { kRegular, kBlockDevice, kOther };
  Type type = Type::kRegular;
  int64_t size = 0;             // bytes
  int64_t allocated_bytes = 0;  // of the host's disk
  int64_t optimal_io = 4096;    // st_blksize
  // What O_DIRECT asks of offset and length, and of memory; 1 if buffered.
  int64_t request_alignment = 1;
  int64_t memory_alignment = 1;
  int64_t modified_ns = 0;  // since 1970: when its data was last written
  uint64_t device = 0;      // with inode: which file it is
  uint64_t inode = 0;
};

struct OpenOptions {
  bool writable = false;
  bool direct = false;  // O_DIRECT
};

class File {
 public:
  virtual ~File() = default;  // closes; nothing may be in flight

  // Of the host, and the file's; -1 where there is none.
  virtual int descriptor() const { return -1; }

  // Starts `op`. True when it completed at once, with op->result set; else
  // op->waiter is resumed on the loop's thread when it has completed.
  virtual bool Start(FileOp* op) = 0;

  virtual Task<IoResult<FileInfo>> Stat() = 0;

  // The start of the next data (or hole) at or after `offset`, as lseek(2) with
  // SEEK_DATA and SEEK_HOLE. ENXIO past the end or when no data follows.
  virtual Task<IoResult<int64_t>> SeekData(int64_t offset) = 0;
  virtual Task<IoResult<int64_t>> SeekHole(int64_t offset) = 0;

  // Open-file-description locks on one byte of the file (engine.md, 4); never
  // wait. Shared() takes a read lock (EAGAIN when an exclusive lock is there),
  // Unlock() gives it up, WouldConflict() asks as a writer whether another
  // description holds any lock there.
  virtual IoStatus LockShared(int64_t byte) = 0;
  virtual IoStatus Unlock(int64_t byte) = 0;
  virtual IoResult<bool> WouldConflict(int64_t byte) = 0;
  // Who holds a lock on the file: "qemu-nbd (pid 41)", comma separated, or
  // empty where it cannot be seen. May read /proc: for error messages only.
  virtual std::string DescribeLockHolders() = 0;

  // co_await file.Read(offset, view) gives the count or a negative errno.
  class Awaiter {
   public:
    Awaiter(File* file, FileOp::Kind kind, int64_t offset, int64_t bytes,
            IoView view, int mode, File* source = nullptr,
            int64_t source_offset = 0)
        : file_(file) {
      op_.source = source;
      op_.source_offset = source_offset;
      op_.kind = kind;
      op_.mode = mode;
      op_.offset = offset;
      op_.bytes = bytes;
      op_.view = view;
    }
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;

    bool await_ready() noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) {
      op_.waiter = waiter;
      return !file_->Start(&op_);
    }
    int64_t await_resume() noexcept { return op_.result; }

   private:
    File* file_;
    FileOp op_;
  };

  Awaiter Read(int64_t offset, IoView to) {
    return Awaiter(this, FileOp::Kind::kRead, offset, to.size(), to, 0);
  }
  Awaiter Write(int64_t offset, IoView from) {
    return Awaiter(this, FileOp::Kind::kWrite, offset, from.size(), from, 0);
  }
  // May be short, and is 0 at the end of `source`. EXDEV, EINVAL, EOPNOTSUPP
  // and the like where these two files cannot.
  Awaiter CopyFrom(File& source, int64_t source_offset, int64_t offset,
                   int64_t bytes) {
    return Awaiter(this, FileOp::Kind::kCopyRange, offset, bytes, IoView(), 0,
                   &source, source_offset);
  }
  Awaiter DataSync() {
    return Awaiter(this, FileOp::Kind::kDataSync, 0, 0, IoView(), 0);
  }
  Awaiter Sync() {
    return Awaiter(this, FileOp::Kind::kSync, 0, 0, IoView(), 0);
  }
  // `mode` as for fallocate(2).
  Awaiter Allocate(int mode, int64_t offset, int64_t bytes) {
    return Awaiter(this, FileOp::Kind::kAllocate, offset, bytes, IoView(),
                   mode);
  }
  Awaiter Truncate(int64_t size_bytes) {
    return Awaiter(this, FileOp::Kind::kTruncate, 0, size_bytes, IoView(), 0);
  }
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_FILE_H_
