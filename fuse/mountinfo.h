// What is mounted where, as /proc/self/mountinfo tells it (proc(5)), and which
// mount a path leads into. Nothing here sends a request to a FUSE daemon, so it
// answers for dead and stuck mounts too.
//
// Threads: any. Errors: one line, naming the path.
#ifndef BGFS_FUSE_MOUNTINFO_H_
#define BGFS_FUSE_MOUNTINFO_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace bgfs::fuse {

struct MountEntry {
  uint64_t id = 0;
  uint64_t parent_id = 0;
  dev_t device = 0;         // st_dev of everything below
  std::string root;         // the part of the file system that is shown
  std::string mount_point;  // absolute, unescaped
  std::string options;      // per mount, comma-separated
  std::string type;         // "fuse.bgfs"
  std::string source;
  uid_t user = 0;  // who mounted it, where it is FUSE
};

// Parses the whole text; lines that are not mountinfo lines are skipped.
std::vector<MountEntry> ParseMountInfo(absl::string_view text);

absl::StatusOr<std::vector<MountEntry>> ReadMountInfo();

// Where a path leads.
struct Place {
  std::string path;  // absolute, symbolic links resolved
  uint64_t mount_id = 0;
  dev_t device = 0;
  bool is_mount_root = false;
  bool is_folder = false;
};

// NotFound if nothing is there.
absl::StatusOr<Place> Locate(const std::string& path);

// The mount with this id; NotFound if this mount namespace has none.
absl::StatusOr<MountEntry> FindMount(uint64_t mount_id);

// Which mount namespace this process is in: the inode number of
// /proc/self/ns/mnt, 0 if it is not to be had.
uint64_t MountNamespace();

// Reads a whole file of /proc or /sys; empty if it cannot be read.
std::string ReadProcFile(const std::string& path);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_MOUNTINFO_H_
