// The mounts of one daemon: made in an order in which nobody sees half of it,
// and unmounted so that nothing is lost (fuse.md, "Mounting and unmounting").
//
//   mount IMAGE DIR     one connection: a folder with one file
//   mount IMAGE FILE    one connection, whose root is the file
//   serve CONFIG DIR    a light connection for the folder, and one for each
//                       export, mounted over its name or its own mount point
//
// Used by the one thread that may block and serves nothing.

#ifndef BGFS_CONFIG_CLI_MOUNTS_H_
#define BGFS_CONFIG_CLI_MOUNTS_H_

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "config/apply.h"
#include "fuse/device.h"
#include "fuse/holders.h"
#include "fuse/mount.h"
#include "fuse/name_folder.h"
#include "fuse/unique_fd.h"
#include "graph/async/loop.h"
#include "proto/bgfs.pb.h"

namespace bgfs::cli {

// Where the exports appear.
struct Layout {
  // The folder for exports without a mount point of their own; may be empty if
  // there are none.
  std::string folder;
  // The folder shows one export as its only file, on that export's connection.
  bool one_file = false;
  // What mount(8) and df show as the source: the image, the configuration.
  std::string source;
};

// Whether the exports of a configuration can be shown in `folder`, which those
// without a mount point of their own need.
absl::Status CheckFolder(const proto::Config& config,
                         const std::string& folder);

// Detaches what a daemon that died has left at `path`, if anything.
absl::Status DetachDead(const std::string& path);

struct MountPoint {
  static constexpr int kFolder = -1;

  int export_number = kFolder;  // in LiveGraph::exports()
  std::string file;             // the export's file, absolute
  fuse::Place place;            // the root of the mount
  fuse::Device device;          // its connection
};

class Mounts {
 public:
  // `on_disconnect` is called with an export_number, on a loop, when a
  // connection has ended: its mount is gone everywhere. It must not wait.
  Mounts(config::LiveGraph* live, Layout layout,
         std::function<void(int)> on_disconnect)
      : live_(live),
        layout_(std::move(layout)),
        on_disconnect_(std::move(on_disconnect)) {}
  Mounts(const Mounts&) = delete;
  Mounts& operator=(const Mounts&) = delete;

  // Mounts these exports, and the folder if one needs it, or nothing. Where
  // another export of the same id is shown, it is put aside: Detach() that one,
  // or these to have it back.
  absl::Status Mount(const std::vector<int>& exports);

  // Takes exports from sight, open or not; nobody finds them any more.
  void Detach(const std::vector<int>& exports);

  // Children after their folder.
  const std::vector<MountPoint>& points() const { return points_; }

  // Who keeps a mount busy, as far as it is known within the limit; mounts of
  // this daemon do not count.
  std::vector<fuse::Holder> HoldersOf(
      const MountPoint& point, const fuse::HolderSearch& search = {}) const;

  // Unmounts everything that is still there, or nothing: FailedPrecondition
  // names the mount that is busy. (Where the kernel lets only root put a mount
  // back, those before it stay gone.) Writes mapped pages back, so the exports
  // must still serve.
  absl::Status UnmountAll();

  // Detaches everything, open or not.
  void DetachAll();

  // Ends the connection of the folder.
  void StopFolder();

 private:
  fuse::MountOptions OptionsFor(const config::LiveExport& item) const;
  absl::Status MountFolder();
  absl::Status MountExport(int number);
  bool InFolder(int number) const;
  void Forget(const std::vector<int>& exports);
  absl::Status AddName(int number);
  absl::Status PutAside(int number);
  void PutAllBack();
  absl::Status UnmountOne(const MountPoint& point) const;
  absl::Status MakePlaceholder(const std::string& path);

  config::LiveGraph* const live_;
  const Layout layout_;
  const std::function<void(int)> on_disconnect_;
  std::vector<MountPoint> points_;
  // Empty files to mount over, made where the folder cannot be a mount.
  std::vector<std::string> placeholders_;
  std::set<int> named_;  // exports whose names the folder shows
  // A mount that another one stands in for, attached nowhere.
  struct Aside {
    MountPoint point;
    fuse::UniqueFd kept;
  };
  std::vector<Aside> aside_;
  std::unique_ptr<Loop> folder_loop_;
  std::unique_ptr<fuse::NameFolder> folder_;
  bool folder_allows_other_ = false;
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_MOUNTS_H_
