// HostFile: a file of the host, as both bodies of the loop that run on the
// kernel have it; what differs is who does what may wait.
//
//   Start ──▶ a copy from or to the page cache? ── yes ──▶ one system call,
//   here
//                          │                               or in a CopyLane
//                          no
//                          ▼
//                      Submit()     UringFile: the ring
//                                   ThreadFile: a thread
//
// Copies are buffered reads that need not wait (RWF_NOWAIT), and buffered
// writes on a local file system. Here they cost least: a small one is done
// sooner than handed over. A lane takes the large ones of which several are
// under way, since two processors then copy at once, and writes while these are
// slow, since a loop does not wait. tests/bench/RESULTS.md has the
// measurements.

#ifndef BGFS_GRAPH_ASYNC_HOST_FILE_H_
#define BGFS_GRAPH_ASYNC_HOST_FILE_H_

#include <cstdint>
#include <string>

#include "graph/async/copy_lane.h"
#include "graph/async/file.h"
#include "graph/async/loop.h"

namespace bgfs {

class HostFile : public File {
 public:
  struct OpenResult {
    int fd = -1;
    int error = 0;       // a positive errno where there is no fd
    bool local = false;  // ext4, xfs, btrfs or tmpfs, and no device
  };
  // Blocks. EINVAL for what is neither a regular file nor a block device.
  static OpenResult OpenNow(const std::string& path, OpenOptions options);

  // Takes the descriptor. `loop` outlives the file.
  HostFile(Loop* loop, OpenResult opened, OpenOptions options)
      : loop_(loop),
        fd_(opened.fd),
        local_(opened.local),
        direct_(options.direct),
        try_nowait_(!options.direct),
        read_lane_(loop),
        write_lane_(loop) {}
  ~HostFile() override;

  int descriptor() const final { return fd_; }
  bool Start(FileOp* op) final;
  Task<IoResult<FileInfo>> Stat() final;
  Task<IoResult<int64_t>> SeekData(int64_t offset) final;
  Task<IoResult<int64_t>> SeekHole(int64_t offset) final;
  IoStatus LockShared(int64_t byte) final;
  IoStatus Unlock(int64_t byte) final;
  IoResult<bool> WouldConflict(int64_t byte) final;
  std::string DescribeLockHolders() final;

 protected:
  // Does `op` without blocking the loop; op->waiter is resumed on it, later.
  // `blocks`: it keeps who runs it busy for long, or waits, for certain.
  virtual void Submit(FileOp* op, bool blocks) = 0;

  // What op->result is to be: the system call itself, from any thread. Blocks.
  int64_t Perform(FileOp* op) const;

  int fd() const { return fd_; }

 private:
  bool StartRead(FileOp* op);
  bool StartWrite(FileOp* op);
  bool WriteInline(FileOp* op);
  bool BelongsInLane(const FileOp& op, const CopyLane& lane);
  Task<IoResult<int64_t>> Seek(int64_t offset, int whence);

  Loop* const loop_;
  const int fd_;
  const bool local_;
  const bool direct_;
  bool try_nowait_;
  CopyLane read_lane_;
  CopyLane write_lane_;
  uint64_t large_turn_ = 0;  // in which the last large copy was started
  // Once an inline write was slow, so many go into the lane before one tries
  // inline again: more each time that the try is slow as well.
  static constexpr int kMinLaneWrites = 16;
  static constexpr int kMaxLaneWrites = 4096;
  int lane_writes_ = 0;
  int next_lane_writes_ = kMinLaneWrites;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_HOST_FILE_H_
