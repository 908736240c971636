// bgfs umount: ends the daemon behind a mount, and waits until everything that
// was written is on the disk.

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "config/cli/find.h"
#include "config/cli/helper.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"
#include "fuse/holders.h"
#include "fuse/mount.h"

namespace bgfs::cli {
namespace {

constexpr int kExitLimitMs = 5000;

// Each time somebody else must have ended a daemon in between.
constexpr int kMaxLooks = 10;

// The process itself ends a moment after it has answered: its pid file and its
// name in ps(1) should be gone as well.
class ProcessWatch {
 public:
  explicit ProcessWatch(pid_t pid)
      : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  void WaitForEnd() const {
    if (!fd_.valid()) return;  // Another pid namespace, or already gone.
    pollfd waited = {fd_.get(), POLLIN, 0};
    poll(&waited, 1, kExitLimitMs);
  }

 private:
  fuse::UniqueFd fd_;
};

std::string Describe(const control::ExportOutcome& outcome) {
  if (!outcome.error().empty()) return outcome.error();
  std::vector<fuse::Holder> holders;
  for (const control::Holder& holder : outcome.holders()) {
    holders.push_back({holder.pid(), holder.name(), holder.what()});
  }
  return absl::StrCat("cannot unmount ", config::Quote(outcome.mountpoint()),
                      ": in use by ", fuse::DescribeHolders(holders),
                      "; end that, or use --force");
}

// The daemon is gone, so nobody knows what became of the last writes.
ExitStatus UmountDead(const fuse::Place& place) {
  absl::Status s = fuse::Unmount(place, fuse::UnmountMode::kLazy);
  if (!s.ok()) return Fail(s);
  return Fail(absl::StrCat("the daemon of ", config::Quote(place.path),
                           " had died: unmounted now, but what was not synced "
                           "may be lost"));
}

// The daemon to end for this path; an error where that is not clear.
absl::StatusOr<config::RunningDaemon> DaemonToEnd(const std::string& path,
                                                  const fuse::Place& place,
                                                  bool all) {
  std::optional<config::RunningDaemon> daemon = FindDaemonOf(place);
  if (!daemon.has_value()) {
    daemon = FindEndingDaemon(path);
    if (daemon.has_value()) return *std::move(daemon);
    return absl::NotFoundError(absl::StrCat(
        "no daemon answers for ", config::Quote(path),
        ": it may be another user's; umount(8) ends it too, but waits for "
        "nothing"));
  }
  const control::StatusReply& status = daemon->status;
  if (!all && status.exports_size() > 1 &&
      status.folder_st_dev() != place.device) {
    return absl::FailedPreconditionError(absl::StrCat(
        config::Quote(path), " is one of ", status.exports_size(),
        " exports of its daemon: use --all to end them together, or umount(8) "
        "for this one"));
  }
  return *std::move(daemon);
}

ExitStatus Tell(const control::ShutdownReply& reply,
                const ProcessWatch& process) {
  ExitStatus result = reply.refused() ? kFailed : kFine;
  bool stuck = false;
  for (const control::ExportOutcome& outcome : reply.exports()) {
    if (outcome.result() == control::ExportOutcome::DURABLE) continue;
    stuck |= outcome.result() == control::ExportOutcome::STUCK;
    result = Fail(Describe(outcome));
  }
  if (!reply.refused() && !stuck) process.WaitForEnd();
  return result;
}

using Outcome = absl::StatusOr<ExitStatus>;

// Aborted: it has to be looked again, since somebody else ended meanwhile what
// was found.
Outcome End(const config::RunningDaemon& daemon, bool force) {
  const ProcessWatch process(daemon.status.pid());
  absl::StatusOr<control::ShutdownReply> reply =
      config::RequestShutdown(daemon, force);
  if (reply.ok()) return Tell(*reply, process);
  if (absl::IsNotFound(reply.status())) {
    return absl::AbortedError(reply.status().message());
  }
  return Fail(reply.status());
}

// Whether this mount is where it was.
bool IsStillThere(const std::string& path, const fuse::Place& place) {
  const absl::StatusOr<fuse::Place> now = FindOurMount(path);
  return now.ok() && now->mount_id == place.mount_id;
}

Outcome TryUmount(const std::string& path, bool force, bool all) {
  absl::StatusOr<fuse::Place> place = FindOurMount(path);
  if (!place.ok()) {
    std::optional<config::RunningDaemon> serving = FindDaemonOfFolder(path);
    if (!serving.has_value()) serving = FindEndingDaemon(path);
    if (serving.has_value()) return End(*serving, force);
    return Fail(TellWhere(path, place.status()));
  }
  absl::StatusOr<config::RunningDaemon> daemon = DaemonToEnd(path, *place, all);
  if (daemon.ok()) return End(*daemon, force);
  if (!IsStillThere(path, *place)) {
    return absl::AbortedError(daemon.status().message());
  }
  if (absl::IsNotFound(daemon.status()) && fuse::IsDeadMount(place->path)) {
    return UmountDead(*place);
  }
  return Fail(daemon.status());
}

ExitStatus Umount(const std::string& path, bool force, bool all) {
  Outcome outcome = absl::AbortedError("");
  for (int i = 0; i < kMaxLooks && absl::IsAborted(outcome.status()); ++i) {
    outcome = TryUmount(path, force, all);
  }
  return outcome.ok() ? *outcome : Fail(outcome.status());
}

}  // namespace

ExitStatus RunUmount(const Arguments& arguments) {
  CLI::App app(
      "Ends what bgfs mount or bgfs serve shows at PATH. Returns when "
      "everything that was\nwritten is on the disk; the exit status says so.",
      "bgfs umount");
  std::string path;
  bool force = false;
  bool all = false;
  app.add_option("PATH", path, "The mount point")->required();
  app.add_flag("-f,--force", force,
               "Even if something is open: open files then give errors");
  app.add_flag("--all", all,
               "PATH may be one of several mount points of a configuration");
  if (auto ended = Parse(&app, arguments)) return *ended;
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  const absl::StatusOr<fuse::Place> place = fuse::Locate(path);
  const ExitStatus status = Umount(path, force, all);
  if (status == kFine && place.ok()) ForgetHelper(place->path);
  return status;
}

}  // namespace bgfs::cli
