// Mounting and unmounting a FUSE connection, through libfuse3 and umount2(2),
// or as an ordinary user through fusermount3.
//
// Threads: every function here blocks and may walk through mounts of our own.
// Call them only from a thread that serves no connection and owns no ring work:
// one that has to answer for the walk it is in never wakes.
//
// Errors: one line. NotFound: the path is missing or is no mount.
// FailedPrecondition: busy, not empty, already mounted. Unavailable: the system
// call failed.
#ifndef BGFS_FUSE_MOUNT_H_
#define BGFS_FUSE_MOUNT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fuse/device.h"
#include "fuse/mountinfo.h"

namespace bgfs::fuse {

// The type every mount of ours shows in mountinfo.
inline constexpr absl::string_view kMountType = "fuse.bgfs";

struct MountOptions {
  std::string fsname;  // the source that mount(8) and df show
  bool read_only = false;
  bool allow_other = false;
  // The kernel checks mode, uid and gid of the file.
  bool default_permissions = true;
  // The largest READ the kernel may send: what a transport can carry. INIT
  // bounds it too, but in pages, whose size differs.
  uint32_t max_read_bytes = 1 << 20;
};

// A mounted connection. Closing the device aborts the connection; it stays
// mounted, dead, until it is unmounted.
struct Mounted {
  Device device;  // close-on-exec, non-blocking
  Place place;    // the root of the mount
};

// Mounts at an existing empty folder or a regular file, which decides the type
// of the root. A dead mount of ours in the way is detached first. The
// connection speaks as soon as somebody answers INIT on the descriptor.
absl::StatusOr<Mounted> Mount(const std::string& path,
                              const MountOptions& options);

// Whether a mount of our type lies at the path whose daemon is gone.
bool IsDeadMount(const std::string& path);

enum class UnmountMode {
  kPlain,  // refuses while something is open (FailedPrecondition names it)
  kLazy,   // detaches the whole tree now; it ends when the last user is gone
  kForce,  // aborts the connection as well: open handles get errors
};

absl::Status Unmount(const std::string& path, UnmountMode mode);

// The same, only if what lies there is still this mount; NotFound if not.
absl::Status Unmount(const Place& place, UnmountMode mode);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_MOUNT_H_
