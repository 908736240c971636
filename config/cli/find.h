// From a path to the mount it leads into, and to the daemon behind that.

#ifndef BGFS_CONFIG_CLI_FIND_H_
#define BGFS_CONFIG_CLI_FIND_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/control.h"
#include "fuse/mountinfo.h"

namespace bgfs::cli {

// The root of the mount of ours that `path` lies in. NotFound if it does not.
absl::StatusOr<fuse::Place> FindOurMount(const std::string& path);

// Null if none answers.
std::optional<config::RunningDaemon> FindDaemonOf(const fuse::Place& place);

// The one behind the mount that `path` lies in, or for an empty one all that
// answer.
absl::StatusOr<std::vector<config::RunningDaemon>> DaemonsFor(
    const std::string& path);

// The daemon that showed something at `path`, shows nothing any more and is on
// its way to its end. One of the caller's own; null if there is none.
std::optional<config::RunningDaemon> FindEndingDaemon(const std::string& path);

// The daemon that serves into `path`, a folder that is no mount: an ordinary
// user's `bgfs serve`. Null if there is none.
std::optional<config::RunningDaemon> FindDaemonOfFolder(
    const std::string& path);

// The daemon that shows something at `path` or, where that is empty, the one of
// the caller's own that serves `config_file` (absolute), or the only one that
// serves a configuration. The error says what to give.
absl::StatusOr<config::RunningDaemon> FindServing(
    const std::string& path, const std::string& config_file);

// FindOurMount()'s error, and where to look instead if a daemon of the caller's
// own shows something at `path` in another mount namespace.
absl::Status TellWhere(const std::string& path, absl::Status error);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_FIND_H_
