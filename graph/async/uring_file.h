// UringFile: a host file on a UringLoop. What is likely to be answered from the
// page cache is done inline with one system call (a small read that need not
// wait, a buffered write on a local file system); everything else goes to the
// ring. fuse.md, "Facts to build on", has the measurements.

#ifndef BGFS_GRAPH_ASYNC_URING_FILE_H_
#define BGFS_GRAPH_ASYNC_URING_FILE_H_

#include <string>

#include "graph/async/file.h"
#include "graph/async/uring_loop.h"

namespace bgfs {

class UringFile final : public File {
 public:
  struct OpenResult {
    int fd = -1;
    int error = 0;
    bool local = false;  // ext4, xfs, btrfs or tmpfs, and no device
  };
  // Blocks. EINVAL for what is neither a regular file nor a block device.
  static OpenResult OpenNow(const std::string& path, OpenOptions options);

  UringFile(UringLoop* loop, OpenResult opened, OpenOptions options)
      : loop_(loop),
        fd_(opened.fd),
        local_(opened.local),
        direct_(options.direct),
        try_nowait_(!options.direct) {}
  ~UringFile() override;

  bool Start(FileOp* op) override;
  Task<IoResult<FileInfo>> Stat() override;
  Task<IoResult<int64_t>> SeekData(int64_t offset) override;
  Task<IoResult<int64_t>> SeekHole(int64_t offset) override;
  IoStatus LockShared(int64_t byte) override;
  IoStatus Unlock(int64_t byte) override;
  IoResult<bool> WouldConflict(int64_t byte) override;
  std::string DescribeLockHolders() override;

 private:
  bool StartRead(FileOp* op);
  bool StartWrite(FileOp* op);
  bool WriteInline(FileOp* op);
  void SubmitTransfer(FileOp* op, int opcode, bool async);
  Task<IoResult<int64_t>> Seek(int64_t offset, int whence);

  UringLoop* const loop_;
  const int fd_;
  const bool local_;
  const bool direct_;
  bool try_nowait_;
  // Once an inline write was slow, so many go to io-wq before one tries inline
  // again: more each time that the try is slow as well.
  static constexpr int kMinRingWrites = 16;
  static constexpr int kMaxRingWrites = 4096;
  int ring_writes_ = 0;
  int next_ring_writes_ = kMinRingWrites;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_URING_FILE_H_
