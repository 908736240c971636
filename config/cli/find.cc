#include "config/cli/find.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "config/diagnostic.h"
#include "fuse/mount.h"

namespace bgfs::cli {

absl::StatusOr<fuse::Place> FindOurMount(const std::string& path) {
  absl::StatusOr<fuse::Place> place = fuse::Locate(path);
  if (!place.ok()) return place;
  absl::StatusOr<fuse::MountEntry> mount = fuse::FindMount(place->mount_id);
  if (!mount.ok()) return mount.status();
  if (mount->type != fuse::kMountType) {
    return absl::NotFoundError(
        absl::StrCat("nothing of bgfs is mounted at ", config::Quote(path)));
  }
  place->path = mount->mount_point;
  place->is_mount_root = true;
  return place;
}

std::optional<config::RunningDaemon> FindDaemonOf(const fuse::Place& place) {
  std::optional<config::RunningDaemon> found;
  config::VisitDaemons([&](const config::RunningDaemon& daemon) {
    const control::StatusReply& status = daemon.status;
    const bool shows =
        status.folder_st_dev() == place.device ||
        std::any_of(status.exports().begin(), status.exports().end(),
                    [&place](const control::ExportStatus& item) {
                      return item.st_dev() == place.device;
                    });
    if (shows) found = daemon;
    return !shows;
  });
  return found;
}

}  // namespace bgfs::cli
