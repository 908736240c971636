#include "config/cli/find.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "config/cli/verb.h"
#include "config/diagnostic.h"
#include "fuse/mount.h"

namespace bgfs::cli {
namespace {

bool IsEnding(const control::StatusReply& status) {
  return status.folder_st_dev() == 0 &&
         std::all_of(status.exports().begin(), status.exports().end(),
                     [](const control::ExportStatus& item) {
                       return item.st_dev() == 0 &&
                              item.state() != control::ExportStatus::STARTING;
                     });
}

// Whether its folder or a mount point of an export was there: the export's file
// itself, or the folder of that.
bool ShowedAt(const control::StatusReply& status, const std::string& path) {
  if (status.folder() == Text(path)) return true;
  return std::any_of(status.exports().begin(), status.exports().end(),
                     [&path](const control::ExportStatus& item) {
                       absl::string_view left = item.mountpoint();
                       if (!absl::ConsumePrefix(&left, Text(path)))
                         return false;
                       return left.empty() ||
                              (left[0] == '/' && left.rfind('/') == 0);
                     });
}

}  // namespace

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
  const absl::StatusOr<fuse::MountEntry> mount =
      fuse::FindMount(place.mount_id);
  if (!mount.ok()) return found;
  config::VisitDaemons([&](const config::RunningDaemon& daemon) {
    // Anybody can say that a mount is his: only who mounted it is believed.
    if (daemon.owner != mount->user) return true;
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

absl::StatusOr<std::vector<config::RunningDaemon>> DaemonsFor(
    const std::string& path) {
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return s;
  std::vector<config::RunningDaemon> daemons;
  if (path.empty()) {
    config::VisitDaemons([&daemons](const config::RunningDaemon& daemon) {
      daemons.push_back(daemon);
      return true;
    });
    return daemons;
  }
  const absl::StatusOr<fuse::Place> place = FindOurMount(path);
  if (!place.ok()) return TellWhere(path, place.status());
  std::optional<config::RunningDaemon> daemon = FindDaemonOf(*place);
  if (!daemon.has_value()) {
    return absl::NotFoundError(
        absl::StrCat("no daemon answers for ", config::Quote(path)));
  }
  daemons.push_back(*std::move(daemon));
  return daemons;
}

std::optional<config::RunningDaemon> FindEndingDaemon(const std::string& path) {
  std::optional<config::RunningDaemon> found;
  const absl::StatusOr<fuse::Place> place = fuse::Locate(path);
  if (!place.ok()) return found;
  config::VisitDaemons([&](const config::RunningDaemon& daemon) {
    // A path is no proof, as a mount is: only a daemon of one's own counts.
    if (daemon.owner == geteuid() && IsEnding(daemon.status) &&
        ShowedAt(daemon.status, place->path)) {
      found = daemon;
    }
    return !found.has_value();
  });
  return found;
}

std::optional<config::RunningDaemon> FindDaemonOfFolder(
    const std::string& path) {
  std::optional<config::RunningDaemon> found;
  const absl::StatusOr<fuse::Place> place = fuse::Locate(path);
  if (!place.ok()) return found;
  config::VisitDaemons([&](const config::RunningDaemon& daemon) {
    // A folder is no proof, as a mount is: only a daemon of one's own counts.
    if (daemon.owner == geteuid() && daemon.status.folder_st_dev() == 0 &&
        daemon.status.folder() == Text(place->path)) {
      found = daemon;
    }
    return !found.has_value();
  });
  return found;
}

absl::StatusOr<config::RunningDaemon> FindServing(
    const std::string& path, const std::string& config_file) {
  if (!path.empty()) {
    std::optional<config::RunningDaemon> daemon;
    const absl::StatusOr<fuse::Place> mount = FindOurMount(path);
    if (mount.ok()) daemon = FindDaemonOf(*mount);
    if (!daemon.has_value()) daemon = FindDaemonOfFolder(path);
    if (daemon.has_value()) return *std::move(daemon);
    if (!mount.ok()) return TellWhere(path, mount.status());
    return absl::NotFoundError(
        absl::StrCat("no daemon answers for ", config::Quote(path)));
  }
  std::vector<config::RunningDaemon> serving;
  std::vector<config::RunningDaemon> same_file;
  config::VisitDaemons([&](const config::RunningDaemon& daemon) {
    if (daemon.owner != geteuid() || daemon.status.config_file().empty()) {
      return true;
    }
    serving.push_back(daemon);
    if (daemon.status.config_file() == Text(config_file)) {
      same_file.push_back(daemon);
    }
    return true;
  });
  if (same_file.size() == 1) return same_file.front();
  if (serving.size() == 1) return serving.front();
  return absl::NotFoundError(
      serving.empty()
          ? "no daemon of yours serves a configuration; start one with: bgfs "
            "serve"
          : "several daemons serve a configuration: give the folder of the one "
            "that is meant");
}

absl::Status TellWhere(const std::string& path, absl::Status error) {
  const absl::StatusOr<fuse::Place> place = fuse::Locate(path);
  if (!place.ok() || !absl::IsNotFound(error)) return error;
  const uint64_t here = fuse::MountNamespace();
  config::VisitDaemons([&](const config::RunningDaemon& daemon) {
    const control::StatusReply& status = daemon.status;
    // A path is no proof, as a mount is: only a daemon of one's own counts.
    if (daemon.owner != geteuid() || status.mount_namespace() == here ||
        !ShowedAt(status, place->path)) {
      return true;
    }
    error = absl::NotFoundError(absl::StrCat(
        error.message(), " in this mount namespace: process ", status.pid(),
        " shows it in its own; run bgfs there (nsenter), or: kill ",
        status.pid()));
    return false;
  });
  return error;
}

}  // namespace bgfs::cli
