// The folder of `bgfs serve`: a light connection that has names and nothing
// else. Each export is mounted over its name. It depends on no disk, so it
// always answers.
#ifndef BGFS_FUSE_NAME_FOLDER_H_
#define BGFS_FUSE_NAME_FOLDER_H_

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "fuse/connection.h"
#include "fuse/device.h"
#include "fuse/folder.h"
#include "graph/async/loop.h"

namespace bgfs::fuse {

// Used on the loop, which outlives it; Stop() has returned before it goes.
class NameFolder {
 public:
  struct Options {
    mode_t folder_mode = 0555;
    // fusermount3 mounts only over a file that its user may write: 0600 then.
    mode_t placeholder_mode = 0;
    uid_t uid = geteuid();
    gid_t gid = getegid();
  };

  // `device`: of the mounted folder (mount.h).
  NameFolder(Loop* loop, Device device, Options options);

  void Start(absl::AnyInvocable<void()> on_end) {
    connection_.Start(std::move(on_end));
  }

  // The name must be new. It is there at once.
  void Add(const std::string& name);
  // Forgets the name; the kernel then detaches what is mounted over it, and
  // handles that are open there stay.
  Task<void> Remove(std::string name);

  Task<void> Stop() { return connection_.Stop(); }

 private:
  const Options options_;
  Folder folder_;
  std::map<std::string, std::unique_ptr<Placeholder>> placeholders_;
  uint64_t next_id_ = kRootId + 1;
  Connection connection_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_NAME_FOLDER_H_
