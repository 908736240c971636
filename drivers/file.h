// The file driver: a regular file or a block device of the host.
//
// Buffered, the file takes any offset and length. With `direct` (O_DIRECT) it
// takes whole blocks only, but the node keeps its exact size all the same: the
// last partial block goes through a second, buffered descriptor.
//
//   | block | block | block | block | par|
//   0        direct               ^ tail ^ size        page:  ^-------^
//
// The kernel keeps both descriptors coherent as long as they do not work on
// one page at the same time (a buffered write could bring back what a direct
// write just replaced). So a request that touches the partial block, or moves
// it, claims the whole page around it as its change window.
//
// A flush that failed is never made good: the kernel has dropped the dirty
// pages, and a second fsync would say that all is well. Every later flush
// fails, until the file is reopened.

#ifndef BGFS_DRIVERS_FILE_H_
#define BGFS_DRIVERS_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "drivers/image_lock.h"
#include "drivers/open_context.h"
#include "graph/async/file.h"
#include "graph/driver.h"
#include "graph/host_bytes.h"
#include "graph/node.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

class FileDriver final : public Driver, private HostBytes {
 public:
  struct Options {
    std::string filename;
    bool direct = false;  // O_DIRECT
    proto::Locking::Mode locking = proto::Locking::AUTO;
    bool force_share = false;  // no locks; for a read-only node
    WarningSink warn;
  };

  explicit FileDriver(Options options) : options_(std::move(options)) {}

  // Once the node has been added, before any request: opens the file, for
  // writing unless the node is read-only. The message names the file.
  Task<absl::Status> Open() override;

  // Why a file could not be opened, and what to do.
  static absl::Status CannotOpen(absl::string_view filename, bool writing,
                                 IoStatus status);

  const std::string& filename() const { return options_.filename; }
  // Which file it is; of an open one.
  uint64_t device() const { return device_; }
  uint64_t inode() const { return inode_; }
  // Whether both have opened one file in the same way.
  bool Like(const FileDriver& other) const {
    return device_ == other.device_ && inode_ == other.inode_ &&
           options_.direct == other.options_.direct &&
           options_.locking == other.options_.locking &&
           options_.force_share == other.options_.force_share;
  }

  absl::string_view format_name() const override { return "file"; }
  void Succeed(Driver& predecessor) override;
  // Bytes that the file no longer has, because something cut it short, read as
  // zeros (as QEMU's do).
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoStatus> FlushToDisk() override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  // Only buffered regular files: copy_file_range(2).
  Task<IoStatus> CopyRangeFrom(Request& request, int64_t offset, int64_t bytes,
                               CopyTarget target) override;
  Task<IoStatus> CopyRangeTo(Request& request, int64_t offset, int64_t bytes,
                             CopySource source) override;
  Task<IoResult<Range>> ChangeWindow(const Request& request) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;
  void AddStatistics(DriverStatistics* statistics) const override;
  // Of a buffered regular file.
  HostBytes* host_bytes() override;
  void RefreshLimits(Limits* limits) override;
  absl::Status PreparePermissions(const PermissionSet& users) override;
  void CommitPermissions() override;
  void AbortPermissions() override;
  Task<void> Close() override;

 private:
  Task<absl::Status> OpenFiles();

  int descriptor() const override { return file_->descriptor(); }
  Task<IoResult<FileInfo>> Look(Request&) override { return file_->Stat(); }

  bool BufferedRegular() const {
    return buffered_ == nullptr && !block_device_;
  }

  static Task<IoStatus> ReadFrom(File& file, int64_t offset, IoView data);
  // Whole blocks of `alignment` at a time.
  static Task<IoStatus> WriteTo(File& file, int64_t offset, IoView data,
                                int64_t alignment);
  // Whole blocks from the disk, the rest through the page cache.
  Task<IoStatus> ReadDirect(int64_t offset, IoView data);
  Task<IoStatus> WriteWithTail(int64_t offset, IoView data);
  // fallocate(2). ENOTSUP, and `*supported` false for ever, where the file
  // system has none.
  Task<IoStatus> Allocate(int mode, int64_t offset, int64_t bytes,
                          bool* supported);
  Task<IoStatus> SetFileSize(int64_t size_bytes);
  Task<IoStatus> Preallocate(int64_t from, int64_t to, Preallocation how);

  const Options options_;
  std::unique_ptr<File> file_;
  std::unique_ptr<File> buffered_;  // with `direct`
  std::unique_ptr<ImageLock> lock_;
  // Has the same file open, and its locks, until rights are committed; or null.
  FileDriver* predecessor_ = nullptr;
  bool block_device_ = false;
  int64_t alignment_ = 1;  // of offset and length
  int64_t memory_alignment_ = 1;
  int64_t optimal_io_ = 4096;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  bool can_punch_ = true;
  bool can_zero_range_ = true;
  bool can_reserve_ = true;
  IoStatus failed_flush_;  // the first one
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_FILE_H_
