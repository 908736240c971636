// The helpers of mount(8) at work.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/cli/find.h"
#include "config/cli/helper.h"
#include "config/cli/verb.h"
#include "fuse/mount.h"

namespace bgfs::cli {
namespace {

// Where mount(8) keeps what the kernel does not.
constexpr char kUtab[] = "/run/mount/utab";

// Exit statuses of mount(8).
constexpr int kMounted = 0;
constexpr int kMisused = 1;
constexpr int kMountFailed = 32;

int ToMountStatus(ExitStatus status) {
  if (status == kFine) return kMounted;
  return status == kWrongUsage ? kMisused : kMountFailed;
}

int WaitFor(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : kFailed;
}

// Runs mount(8) or umount(8) for its table alone. What it cannot write nobody
// misses: umount(8) then goes past the helper.
void ChangeUtab(std::vector<std::string> words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY,
                                   0);
  pid_t child = 0;
  if (posix_spawnp(&child, argv[0], &quiet, nullptr, argv.data(), environ) ==
      0) {
    WaitFor(child);
  }
  posix_spawn_file_actions_destroy(&quiet);
}

void RememberHelper(const std::string& image, const std::string& path) {
  if (geteuid() != 0) return;
  ChangeUtab({"mount", "-i", "-f", "-t", "fuse.bgfs", "-o", "uhelper=fuse.bgfs",
              "--", image, path});
}

int RunMountHelper(const std::vector<std::string>& arguments) {
  const absl::StatusOr<MountCall> call = ParseMountCall(arguments);
  if (!call.ok()) {
    Note(call.status().message());
    return kMisused;
  }
  if (call->fake) return kMounted;
  // The command ends inside when its daemon is ready.
  const pid_t child = fork();
  if (child < 0) {
    Fail("cannot fork");
    return kMountFailed;
  }
  if (child == 0) std::_Exit(RunMount(call->arguments));
  const auto status = static_cast<ExitStatus>(WaitFor(child));
  const absl::StatusOr<fuse::Place> place = FindOurMount(call->mount_point);
  if (status == kFine && place.ok() && !call->no_utab) {
    ForgetHelper(place->path);
    RememberHelper(Absolute(call->image), place->path);
  }
  return ToMountStatus(status);
}

// Whether it is for us to end the daemon. Not for one of several exports, and
// not for what only umount(2) can end: another user's, one that is stopped.
bool EndsDaemon(const std::string& path, const fuse::Place& place) {
  const std::optional<config::RunningDaemon> daemon = FindDaemonOf(place);
  if (!daemon.has_value()) return fuse::IsDeadMount(path);
  return daemon->status.exports_size() == 1 ||
         daemon->status.folder_st_dev() == place.device;
}

ExitStatus Umount(const UmountCall& call) {
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  const absl::StatusOr<fuse::Place> place = FindOurMount(call.path);
  if (!place.ok()) return Fail(place.status());
  if (call.lazy || !EndsDaemon(call.path, *place)) {
    fuse::UnmountMode mode = fuse::UnmountMode::kPlain;
    if (call.lazy) mode = fuse::UnmountMode::kLazy;
    if (call.force) mode = fuse::UnmountMode::kForce;
    const absl::Status s = fuse::Unmount(*place, mode);
    return s.ok() ? kFine : Fail(s);
  }
  std::vector<std::string> arguments = {"--", call.path};
  if (call.force) arguments.insert(arguments.begin(), "--force");
  return RunUmount(arguments);
}

int RunUmountHelper(const std::vector<std::string>& arguments) {
  const absl::StatusOr<UmountCall> call = ParseUmountCall(arguments);
  if (!call.ok()) {
    Note(call.status().message());
    return kMisused;
  }
  const ExitStatus status = Umount(*call);
  if (!FindOurMount(call->path).ok()) ForgetHelper(call->path);
  return ToMountStatus(status);
}

}  // namespace

void ForgetHelper(const std::string& path) {
  if (geteuid() != 0) return;
  // A space is written in another way there; then a line may stay, which does
  // no harm.
  if (!absl::StrContains(fuse::ReadProcFile(kUtab),
                         absl::StrCat("TARGET=", path, " "))) {
    return;
  }
  ChangeUtab({"umount", "-i", "--fake", "--", path});
}

int RunHelper(Helper helper, const std::vector<std::string>& arguments) {
  return helper == Helper::kUmount ? RunUmountHelper(arguments)
                                   : RunMountHelper(arguments);
}

}  // namespace bgfs::cli
