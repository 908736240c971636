// Who keeps a mount busy: processes (open files, mappings, current and root
// folders), loop devices, and mounts on top of it. The kernel only says EBUSY;
// people need names.
//
// Threads: any that may block. Nothing here sends a request to the mount.
// Still, /proc may not answer for a process that is stuck in the kernel, so a
// search has a time limit.
#ifndef BGFS_FUSE_HOLDERS_H_
#define BGFS_FUSE_HOLDERS_H_

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "fuse/mountinfo.h"

namespace bgfs::fuse {

struct Holder {
  pid_t pid = 0;     // 0: not a process
  std::string comm;  // the process's name, or the loop device's
  std::string what;  // "open file", "mapped file", "current folder", ...
};

struct HolderSearch {
  std::chrono::milliseconds limit{2000};
  std::string proc = "/proc";
};

// Sees what the caller's rights let it see: other users' processes need root.
// Those found within the limit; a thread that is stuck is left behind.
std::vector<Holder> FindHolders(const MountEntry& mount,
                                const HolderSearch& search = {});

// "fio (pid 12, open file), /dev/loop0 (loop device)"; a long list is cut.
std::string DescribeHolders(const std::vector<Holder>& holders);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_HOLDERS_H_
