// Passthrough: for whoever has the export open the kernel reads, writes and
// maps the host's file itself, and bgfs serves the rest.
//
//   client ── read, write, mmap ─────────────────▶ kernel ──────────▶ file
//          ── stat, truncate, fallocate, fsync ──▶ kernel ─▶ bgfs ──▶ file
//
// While one open of an inode is such a one, the kernel admits no other: so all
// opens of the export are, or fail.
//
// A handle or a mapping outlives the connection, since the kernel asks nobody
// for its data. So it is never told to forget the file: it has that open, and
// with it our locks (drivers/file.cc), until the last of them is gone.
//
// Source: fs/fuse/passthrough.c, iomode.c and backing.c of Linux 6.18. Regular
// files only, and CAP_SYS_ADMIN.
#ifndef BGFS_FUSE_PASSTHROUGH_H_
#define BGFS_FUSE_PASSTHROUGH_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "fuse/device.h"
#include "fuse/negotiate.h"

namespace bgfs::fuse {

// Used by who serves the device.
class Passthrough {
 public:
  // `fd`: the file, which is the caller's and stays open.
  Passthrough(Device device, int fd) : device_(std::move(device)), fd_(fd) {}

  // Once INIT was answered: what the kernel calls the file, as opens are to
  // say. FailedPrecondition or Unavailable where it does not take it, always
  // then.
  const absl::StatusOr<int32_t>& BackingId(const Agreement& agreement);

 private:
  absl::StatusOr<int32_t> Open(const Agreement& agreement) const;

  const Device device_;
  const int fd_;
  std::optional<absl::StatusOr<int32_t>> id_;  // once it was asked for
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_PASSTHROUGH_H_
