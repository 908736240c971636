// The regular file that shows an export: what it answers to each request, over
// the backend. Reads and writes are in export_file_io.cc, space (fallocate,
// lseek) in export_file_space.cc, attributes here.
//
// A fixed-size export behaves like a block device of its size: writes are
// clipped, beyond the end there is ENOSPC, truncating gives EPERM. A resizable
// one behaves like a file.
//
// The kernel caches the size. It learns of a change by its own requests from
// the replies; any other change is told by `invalidate`.
//
// Used at the home of the backend.
#ifndef BGFS_FUSE_EXPORT_FILE_H_
#define BGFS_FUSE_EXPORT_FILE_H_

#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "fuse/inode.h"
#include "fuse/negotiate.h"
#include "fuse/passthrough.h"
#include "graph/backend.h"

namespace bgfs::fuse {

class ExportFile final : public Inode {
 public:
  struct Options {
    mode_t mode = 0600;  // permission bits
    uid_t uid = geteuid();
    gid_t gid = getegid();
    // The kernel keeps what it has read. Only where nobody can change the bytes
    // below: a read-only export of a graph that is read-only throughout.
    bool cached = false;
    // The kernel carries the data itself; null where it does not. Outlives the
    // file.
    Passthrough* passthrough = nullptr;
    // A SEEK_DATA or SEEK_HOLE that takes longer gives up.
    int64_t seek_limit_ns = 5'000'000'000;
  };

  // Backend and agreement outlive it. `invalidate` makes the kernel ask for the
  // attributes again; it must not wait.
  ExportFile(uint64_t node_id, Options options, Backend* backend,
             const Agreement* agreement, absl::AnyInvocable<void()> invalidate);

  // What lies below is another graph now, and the kernel may keep what it reads
  // from here on or not.
  void SetCached(bool cached) { cached_ = cached; }
  // The size of the backend has changed.
  void OnResize() { TellSize(); }

  // From the next GETATTR on it looks like a folder: the kernel then gives up
  // the file, and fails with EIO whatever an open handle asks of it. Nothing
  // else stops those that data passes through to; mappings stay even so. (Linux
  // 6.18, fuse_do_getattr in fs/fuse/dir.c.)
  void CutOff() { type_ = S_IFDIR; }

  Task<IoResult<uint32_t>> Serve(Exchange* exchange) override;
  Task<IoResult<fuse_attr>> Attributes() override;
  uint64_t attribute_seconds() const override { return 60; }
  Task<IoResult<fuse_kstatfs>> FileSystem() override;

 private:
  // While the kernel's own request changes the size: the reply tells it.
  class OwnResize {
   public:
    explicit OwnResize(ExportFile* file) : file_(file) {
      ++file_->own_resizes_;
    }
    OwnResize(const OwnResize&) = delete;
    OwnResize& operator=(const OwnResize&) = delete;
    ~OwnResize() {
      --file_->own_resizes_;
      file_->TellSize();
    }

   private:
    ExportFile* file_;
  };

  Task<IoResult<uint32_t>> ServeNow(Exchange* exchange);
  Task<IoResult<uint32_t>> LookAndServe(Exchange* exchange);
  // With passthrough: sees what clients have done meanwhile.
  Task<IoStatus> Look();

  IoResult<uint32_t> Open(Exchange* exchange) const;
  Task<IoResult<uint32_t>> SetAttributes(Exchange* exchange);
  Task<IoStatus> Resize(uint64_t size_bytes);

  Task<IoResult<uint32_t>> Read(Exchange* exchange);
  Task<IoResult<uint32_t>> Write(Exchange* exchange);
  Task<IoResult<uint32_t>> Sync();
  Task<IoResult<uint32_t>> CopyFileRange(Exchange* exchange);
  Task<IoStatus> CopyBytes(int64_t from, int64_t to, int64_t bytes);

  Task<IoResult<uint32_t>> Allocate(Exchange* exchange);
  Task<IoStatus> AllocateRange(int64_t offset, int64_t bytes, uint32_t mode);
  Task<IoStatus> ReserveRange(int64_t offset, int64_t bytes);
  Task<IoResult<uint32_t>> Seek(Exchange* exchange);
  Task<IoResult<int64_t>> SeekFrom(int64_t offset, uint32_t whence);
  Task<uint64_t> AllocatedBytes();

  // How much of [offset, offset + bytes) may be written: 0 bytes is ENOSPC.
  IoResult<int64_t> ClipWrite(uint64_t offset, uint64_t bytes) const;
  // The kernel knows that the file reaches to `end` now.
  void KernelSawEnd(int64_t end);
  void TellSize();
  void TouchModified();

  Backend* const backend_;
  const Agreement* const agreement_;
  absl::AnyInvocable<void()> invalidate_;
  bool cached_;
  Passthrough* const passthrough_;
  const int64_t seek_limit_ns_;
  mode_t type_ = S_IFREG;
  mode_t mode_;
  uid_t uid_;
  gid_t gid_;
  int64_t host_modified_ns_ = 0;  // as Look() saw it last
  timespec accessed_;
  timespec modified_;
  timespec changed_;
  int own_resizes_ = 0;
  int64_t kernel_size_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_EXPORT_FILE_H_
