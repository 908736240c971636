#define FUSE_USE_VERSION 314

#include "fuse/mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fuse/holders.h"
#include "fuse/unique_fd.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#define BGFS_LEAK_SANITIZER 1
#endif
#endif

namespace bgfs::fuse {
namespace {

// A daemon that says nothing for so long hangs, but lives.
constexpr int kAnswerLimitMs = 2000;

// libfuse copies the path and frees it only where it unmounts by itself.
int MountSession(fuse_session* session, const std::string& path) {
#ifdef BGFS_LEAK_SANITIZER
  const __lsan::ScopedDisabler known_leak;
#endif
  return fuse_session_mount(session, path.c_str());
}

// What libfuse said last on this thread; it only prints, so its printer is
// replaced.
thread_local std::string last_message;

void KeepMessage(fuse_log_level /*level*/, const char* format, va_list args) {
  char text[512];
  vsnprintf(text, sizeof(text), format, args);
  last_message = std::string(absl::StripAsciiWhitespace(text));
}

void CaptureMessages() {
  static const bool done = [] {
    fuse_set_log_func(KeepMessage);
    return true;
  }();
  static_cast<void>(done);
  last_message.clear();
}

std::string OptionText(const MountOptions& options) {
  std::string text = absl::StrCat(
      "subtype=bgfs,fsname=",
      absl::StrReplaceAll(options.fsname.empty() ? "bgfs" : options.fsname,
                          {{"\\", "\\\\"}, {",", "\\,"}}));
  if (options.read_only) text += ",ro";
  if (options.allow_other) text += ",allow_other";
  if (options.default_permissions) text += ",default_permissions";
  absl::StrAppend(&text, ",max_read=", options.max_read_bytes);
  return text;
}

absl::StatusOr<bool> IsEmptyFolder(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot read folder \"", path, "\": ", strerror(errno)));
  }
  bool empty = true;
  while (const dirent* entry = readdir(dir)) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") empty = false;
  }
  closedir(dir);
  return empty;
}

// The mount at this place, if it is one of ours.
absl::StatusOr<MountEntry> FindOurs(const Place& place) {
  if (!place.is_mount_root) return absl::NotFoundError("not a mount");
  absl::StatusOr<MountEntry> entry = FindMount(place.mount_id);
  if (entry.ok() && entry->type != kMountType) {
    return absl::NotFoundError("not a mount of bgfs");
  }
  return entry;
}

// STATFS is never answered from a cache, so it tells a dead daemon. One that
// hangs would keep whoever asks for ever: a child asks, and is left behind. It
// holds none of our files.
bool DaemonIsGone(const Place& place) {
  const pid_t child = fork();
  if (child == 0) {
    syscall(SYS_close_range, 0u, ~0u, 0u);
    struct statfs fs = {};
    _exit(statfs(place.path.c_str(), &fs) != 0 &&
          (errno == ENOTCONN || errno == ECONNABORTED));
  }
  if (child < 0) return false;
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd ended = {process.get(), POLLIN, 0};
  while (process.valid() && poll(&ended, 1, kAnswerLimitMs) < 0 &&
         errno == EINTR) {
  }
  int status = 0;
  if (waitpid(child, &status, WNOHANG) == child) {
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
  }
  kill(child, SIGKILL);
  return false;
}

// Detaches dead mounts of ours (several may lie on top of each other) and says
// what is there then.
absl::StatusOr<Place> ClearMountPoint(const std::string& path) {
  for (;;) {
    absl::StatusOr<Place> place = Locate(path);
    if (absl::IsNotFound(place.status())) {
      return absl::NotFoundError(absl::StrCat(
          "mount point \"", path, "\" does not exist: create it first"));
    }
    if (!place.ok()) return place;
    absl::StatusOr<MountEntry> ours = FindOurs(*place);
    if (!ours.ok()) return place;
    if (!DaemonIsGone(*place)) {
      return absl::FailedPreconditionError(
          absl::StrCat("mount point \"", path, "\" is in use: ", ours->source,
                       " is mounted there; run: bgfs umount ", place->path));
    }
    if (absl::Status s = Unmount(*place, UnmountMode::kLazy); !s.ok()) return s;
  }
}

absl::Status CheckTarget(const Place& place) {
  struct stat st = {};
  if (stat(place.path.c_str(), &st) != 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot use mount point \"", place.path, "\": ", strerror(errno)));
  }
  if (S_ISREG(st.st_mode)) return absl::OkStatus();
  if (!S_ISDIR(st.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("mount point \"", place.path,
                     "\" is neither a folder nor a regular file"));
  }
  absl::StatusOr<bool> empty = IsEmptyFolder(place.path);
  if (!empty.ok()) return empty.status();
  if (*empty) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("mount point \"", place.path,
                   "\" is not empty: give an empty folder or a file"));
}

absl::StatusOr<UniqueFd> MountWithLibfuse(const std::string& path,
                                          const MountOptions& options) {
  CaptureMessages();
  const std::string text = OptionText(options);
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  absl::Cleanup free_args = [&] { fuse_opt_free_args(&args); };
  if (fuse_opt_add_arg(&args, "bgfs") != 0 ||
      fuse_opt_add_arg(&args, "-o") != 0 ||
      fuse_opt_add_arg(&args, text.c_str()) != 0) {
    return absl::ResourceExhaustedError("out of memory for mount options");
  }
  const fuse_lowlevel_ops no_operations = {};
  fuse_session* session =
      fuse_session_new(&args, &no_operations, sizeof(no_operations), nullptr);
  if (session == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("mount options refused: ", last_message));
  }
  // The session goes at once: only its descriptor is of use here.
  absl::Cleanup destroy = [&] { fuse_session_destroy(session); };
  if (MountSession(session, path) != 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot mount at \"", path, "\": ",
        last_message.empty()
            ? "fusermount3 says above why; bgfs doctor may say what to do"
            : last_message));
  }
  UniqueFd fd(fcntl(fuse_session_fd(session), F_DUPFD_CLOEXEC, 3));
  if (!fd.valid() || fcntl(fd.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot keep /dev/fuse open: ", strerror(errno)));
  }
  return fd;
}

// Runs fusermount3 -u; its complaint becomes the error.
absl::Status RunFusermount(const std::string& path, bool lazy) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot run fusermount3: ", strerror(errno)));
  }
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  absl::Cleanup free_actions = [&] {
    posix_spawn_file_actions_destroy(&actions);
  };
  posix_spawn_file_actions_adddup2(&actions, writer.get(), STDERR_FILENO);
  const char* argv[] = {"fusermount3", lazy ? "-uz" : "-u", "--", path.c_str(),
                        nullptr};
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr,
                                 const_cast<char**>(argv), environ);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot run fusermount3: ", strerror(error)));
  }
  writer.Reset();
  char text[512];
  ssize_t length = 0;
  while ((length = read(reader.get(), text, sizeof(text))) < 0 &&
         errno == EINTR) {
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  const absl::string_view said(
      text, static_cast<size_t>(std::max<ssize_t>(0, length)));
  return absl::UnavailableError(absl::StrCat(
      "cannot unmount \"", path, "\": ", absl::StripAsciiWhitespace(said)));
}

absl::Status BusyError(const Place& place) {
  absl::StatusOr<MountEntry> mount = FindMount(place.mount_id);
  if (!mount.ok()) return mount.status();
  const std::string holders = DescribeHolders(FindHolders(*mount));
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot unmount \"", place.path, "\": in use by ",
      holders.empty() ? "a process that cannot be seen from here" : holders));
}

absl::Status UnmountPlace(const Place& place, UnmountMode mode) {
  int flags = UMOUNT_NOFOLLOW;
  if (mode == UnmountMode::kLazy) flags |= MNT_DETACH;
  if (mode == UnmountMode::kForce) flags |= MNT_FORCE | MNT_DETACH;
  if (umount2(place.path.c_str(), flags) == 0) return absl::OkStatus();
  switch (errno) {
    case EBUSY:
      return BusyError(place);
    case EPERM: {
      absl::Status s = RunFusermount(place.path, mode != UnmountMode::kPlain);
      return absl::StrContains(s.message(), strerror(EBUSY)) ? BusyError(place)
                                                             : s;
    }
    default:
      return absl::UnavailableError(absl::StrCat(
          "cannot unmount \"", place.path, "\": ", strerror(errno)));
  }
}

}  // namespace

absl::StatusOr<Mounted> Mount(const std::string& path,
                              const MountOptions& options) {
  absl::StatusOr<Place> target = ClearMountPoint(path);
  if (!target.ok()) return target.status();
  if (absl::Status s = CheckTarget(*target); !s.ok()) return s;
  absl::StatusOr<UniqueFd> fd = MountWithLibfuse(target->path, options);
  if (!fd.ok()) return fd.status();
  absl::StatusOr<Place> place = Locate(target->path);
  if (!place.ok()) {
    Unmount(target->path, UnmountMode::kLazy).IgnoreError();
    return place.status();
  }
  Device device(*std::move(fd), place->device);
  return Mounted{std::move(device), *std::move(place)};
}

bool IsDeadMount(const std::string& path) {
  absl::StatusOr<Place> place = Locate(path);
  return place.ok() && FindOurs(*place).ok() && DaemonIsGone(*place);
}

absl::Status Unmount(const std::string& path, UnmountMode mode) {
  absl::StatusOr<Place> place = Locate(path);
  if (!place.ok()) return place.status();
  if (!place->is_mount_root) {
    return absl::NotFoundError(
        absl::StrCat("nothing is mounted at \"", path, "\""));
  }
  return UnmountPlace(*place, mode);
}

absl::Status Unmount(const Place& place, UnmountMode mode) {
  absl::StatusOr<Place> now = Locate(place.path);
  if (!now.ok()) return now.status();
  if (now->mount_id != place.mount_id || now->device != place.device ||
      !now->is_mount_root) {
    return absl::NotFoundError(
        absl::StrCat("the mount at \"", place.path, "\" is already gone"));
  }
  return UnmountPlace(*now, mode);
}

}  // namespace bgfs::fuse
