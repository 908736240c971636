// The helpers of mount(8): mount.fuse.bgfs and umount.fuse.bgfs, which are the
// bgfs command by another name. They make an fstab line, `mount -t fuse.bgfs
// IMAGE DIR` and `umount DIR` do what bgfs mount and bgfs umount do:
//
//   mount.fuse.bgfs IMAGE DIR [-sfnvrw] [-o OPTIONS] [-t TYPE]
//   umount.fuse.bgfs PATH [-flnrv] [-t TYPE]
//
// Among OPTIONS may stand those of bgfs mount, without dashes in front and with
// - or _ within: format=qcow2, resizable, force_share, allow_implicit=DIR,
// transport=dev, log=FILE, pid_file=FILE. What is meant for mount(8), for
// systemd or for other file systems (nofail, _netdev, x-..., noatime) is left
// out. Nothing that lies on bgfs has a device or a setuid file, so nodev and
// nosuid hold.
//
// umount(8) calls the helper only where /run/mount/utab names it, so a mount
// that the helper makes leaves a line there, and its end takes it away.

#ifndef BGFS_CONFIG_CLI_HELPER_H_
#define BGFS_CONFIG_CLI_HELPER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace bgfs::cli {

// What mount(8) asks for, in words of bgfs mount.
struct MountCall {
  std::string image;
  std::string mount_point;
  std::vector<std::string> arguments;  // of bgfs mount, these two among them
  bool fake = false;                   // -f: do nothing
  bool no_utab = false;                // -n
};

struct UmountCall {
  std::string path;
  bool force = false;
  bool lazy = false;
};

// Pure. InvalidArgument: wrong usage, in one line.
absl::StatusOr<MountCall> ParseMountCall(
    const std::vector<std::string>& arguments);
absl::StatusOr<UmountCall> ParseUmountCall(
    const std::vector<std::string>& arguments);

enum class Helper : uint8_t { kNone, kMount, kUmount };

// Which one a command is, by its own name (argv[0]).
Helper HelperOf(absl::string_view command);

// The exit status is mount(8)'s: 0 fine, 1 wrong usage, 32 failed.
int RunHelper(Helper helper, const std::vector<std::string>& arguments);

// Takes the line of a mount point that is gone out of utab, if there is one.
void ForgetHelper(const std::string& path);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_HELPER_H_
