// How a daemon ends: the order of steps, what each may wait for, and what is
// told of it.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/cli/daemon.h"
#include "fuse/fuse_export.h"
#include "fuse/mountinfo.h"

namespace bgfs::cli {
namespace {

using Clock = std::chrono::steady_clock;
using config::Deadline;
using config::Pending;
using control::ExportOutcome;

// A connection ends with its last mount, at once; only a mount in another
// namespace keeps it.
constexpr auto kDisconnectLimit = std::chrono::seconds(2);
constexpr auto kLookEvery = std::chrono::milliseconds(50);

control::Holder ToMessage(const fuse::Holder& holder) {
  control::Holder message;
  message.set_pid(holder.pid);
  message.set_name(Text(holder.comm));
  message.set_what(holder.what);
  return message;
}

// Does something with a file of ours, where it is still mounted; gives the
// errno that `work` ends with. In a process of its own: where the disk hangs, a
// thread of ours that waits for an answer of ours could not be killed, and
// would keep the connection from its end.
absl::Status InChild(const fuse::Place& place, const std::string& file,
                     int (*work)(const char* file)) {
  absl::StatusOr<fuse::Place> now = fuse::Locate(place.path);
  if (!now.ok() || now->mount_id != place.mount_id) return absl::OkStatus();
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child == 0) {
    close_range(0, ~0U, 0);
    _exit(work(file.c_str()));
  }
  int status = 0;
  pid_t ended = 0;
  while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  if (ended < 0) return absl::ErrnoToStatus(errno, "waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(WIFEXITED(status) ? WEXITSTATUS(status) : EINTR,
                             file);
}

// fsync(2) writes the pages of mappings back, and then flushes.
int SyncFile(const char* file) {
  const int fd = open(file, O_RDONLY | O_NONBLOCK);
  return fd >= 0 && fsync(fd) == 0 ? 0 : errno;
}

// Makes the kernel see that an export is cut off (FuseExport::CutOff); then
// waits for the write that it has in hand, as setting times does.
int SeeCutOff(const char* file) {
  const int fd = open(file, O_PATH);
  struct statx seen = {};
  const int failed = statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
                           STATX_BASIC_STATS, &seen);
  const bool cut =
      fd >= 0 && (failed != 0 ? errno == EIO : S_ISDIR(seen.stx_mode));
  if (utimensat(fd, "", nullptr, AT_EMPTY_PATH) != 0) errno = 0;
  return cut ? 0 : EBUSY;
}

Task<void> CutOff(BlockExport* item) {
  // Only fuse exports are made (daemon.cc).
  static_cast<fuse::FuseExport*>(item)->CutOff();
  co_return;
}

}  // namespace

Deadline Daemon::NextLook() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (force_ && deadline_ == Deadline::max()) {
    deadline_ =
        Clock::now() + std::chrono::seconds(job_->options.close_limit_s);
  }
  return std::min<Deadline>(deadline_, Clock::now() + kLookEvery);
}

bool Daemon::Await(Pending<absl::Status>* pending, absl::Status* result) {
  for (;;) {
    std::optional<absl::Status> status = pending->WaitUntil(NextLook());
    if (status.has_value()) {
      *result = *std::move(status);
      return true;
    }
    if (Clock::now() >= deadline_) return false;
  }
}

bool Daemon::FindUsers(control::ShutdownReply* refusal) const {
  // For all of them together. What was not found in time umount(2) finds.
  const Deadline deadline = Clock::now() + fuse::HolderSearch().limit;
  for (const MountPoint& point : mounts_->points()) {
    fuse::HolderSearch search;
    search.limit = std::max(
        std::chrono::milliseconds(0),
        std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()));
    const std::vector<fuse::Holder> holders = mounts_->HoldersOf(point, search);
    if (holders.empty()) continue;
    ExportOutcome* outcome = refusal->add_exports();
    if (point.export_number != MountPoint::kFolder) {
      outcome->set_id(Text(live_->exports().at(point.export_number).item.id()));
    }
    outcome->set_mountpoint(Text(point.place.path));
    outcome->set_result(ExportOutcome::IN_USE);
    for (const fuse::Holder& holder : holders) {
      *outcome->add_holders() = ToMessage(holder);
    }
  }
  refusal->set_refused(refusal->exports_size() > 0);
  return refusal->refused();
}

void Daemon::Answer(const control::ShutdownReply& reply) {
  const std::lock_guard<std::mutex> lock(mutex_);
  reply_ = reply;
  // Once ended, whoever asks later gets the same.
  answered_ = phase_ == Phase::kEnded ? kAllAsked : asked_;
  changed_.notify_all();
}

bool Daemon::EndPlainly() {
  control::ShutdownReply refusal;
  if (FindUsers(&refusal)) {
    Answer(refusal);
    return false;
  }
  auto unmounting = Pending<absl::Status>::Call(
      [mounts = mounts_.get()] { return mounts->UnmountAll(); });
  absl::Status unmounted;
  if (!Await(&unmounting, &unmounted)) {
    mounts_stuck_ = true;
  } else if (!unmounted.ok()) {
    Refuse(unmounted.message(), ExportOutcome::IN_USE);
    return false;
  } else if (!WaitDisconnected()) {
    Refuse(absl::StrCat("unmounted here, but another mount namespace still "
                        "shows it: unmount it there, or run: kill ",
                        getpid()),
           ExportOutcome::FAILED);
    return false;
  }
  Close();
  return true;
}

void Daemon::Refuse(absl::string_view error, ExportOutcome::Result result) {
  control::ShutdownReply refusal;
  ExportOutcome* outcome = refusal.add_exports();
  outcome->set_result(result);
  outcome->set_error(Text(error));
  refusal.set_refused(true);
  Answer(refusal);
}

bool Daemon::WaitDisconnected() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, kDisconnectLimit,
                    [this] { return force_ || AllDisconnected(); });
  return force_ || AllDisconnected();
}

void Daemon::EndByForce() {
  NextLook();  // The time runs from here.
  TellStopping();
  SettleClients();
  auto detaching = Pending<absl::Status>::Call([mounts = mounts_.get()] {
    mounts->DetachAll();
    return absl::OkStatus();
  });
  absl::Status detached;
  if (!Await(&detaching, &detached)) mounts_stuck_ = true;
  Close();
}

std::function<absl::Status()> Daemon::SettlerOf(const MountPoint& point) const {
  if (point.export_number == MountPoint::kFolder) return nullptr;
  const config::LiveExport& item = live_->exports().at(point.export_number);
  if (item.item.fuse().passthrough()) {
    // Its mapped pages are the host's, which closing flushes.
    return
        [home = live_->home(item.part), block_export = item.block_export.get(),
         place = point.place, file = point.file] {
          BlockOn(*home, CutOff(block_export));
          return InChild(place, file, SeeCutOff);
        };
  }
  if (!item.item.writable()) return nullptr;
  return [place = point.place, file = point.file] {
    return InChild(place, file, SyncFile);
  };
}

void Daemon::SettleClients() {
  std::vector<std::pair<int, Pending<absl::Status>>> syncing;
  for (const MountPoint& point : mounts_->points()) {
    std::function<absl::Status()> settle = SettlerOf(point);
    if (settle == nullptr) continue;
    syncing.emplace_back(point.export_number,
                         Pending<absl::Status>::Call(std::move(settle)));
  }
  // The other half of the time is for closing.
  const Deadline half = Clock::now() + (deadline_ - Clock::now()) / 2;
  for (auto& [index, pending] : syncing) {
    std::optional<absl::Status> status = pending.WaitUntil(half);
    if (!status.has_value()) {
      abandoned_ = true;
    } else if (!status->ok()) {
      sync_errors_[index] = *std::move(status);
    }
  }
}

void Daemon::Close() {
  TellStopping();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    phase_ = Phase::kClosing;
    for (auto& [number, item] : exports_) {
      item.set_state(control::ExportStatus::CLOSING);
    }
  }
  live_->BeginClose();
  while (!live_->WaitClosed(NextLook())) {
    if (Clock::now() < deadline_) continue;
    abandoned_ = true;
    AbortStuck();
    break;
  }
  if (!mounts_stuck_) mounts_->StopFolder();
  const std::lock_guard<std::mutex> lock(mutex_);
  phase_ = Phase::kEnded;
}

// Whoever waits for a disk that does not answer gets an error now, and not when
// the last of our threads has come back from the kernel.
void Daemon::AbortStuck() {
  for (const MountPoint& point : mounts_->points()) {
    if (point.export_number == MountPoint::kFolder) continue;
    if (live_->exports().at(point.export_number).block_export == nullptr)
      continue;
    const fuse::UniqueFd abort = point.device.OpenAbort();
    if (abort.valid() && write(abort.get(), "1", 1) < 0) errno = 0;
  }
}

control::ShutdownReply Daemon::Outcome() const {
  control::ShutdownReply reply;
  for (const auto& [number, item] : live_->exports()) {
    absl::Status status = item.outcome;
    const auto synced = sync_errors_.find(number);
    if (synced != sync_errors_.end()) status.Update(synced->second);

    ExportOutcome* outcome = reply.add_exports();
    outcome->set_id(Text(item.item.id()));
    outcome->set_mountpoint(exports_.at(number).mountpoint());
    if (item.block_export != nullptr) {
      outcome->set_result(ExportOutcome::STUCK);
      outcome->set_error(absl::StrCat(
          "export \"", item.item.id(), "\" (node \"", item.item.node(),
          "\"): its disk did not answer within ", job_->options.close_limit_s,
          " s; what was not synced may be lost"));
    } else if (!status.ok()) {
      outcome->set_result(ExportOutcome::FAILED);
      outcome->set_error(Text(status.message()));
    } else {
      outcome->set_result(ExportOutcome::DURABLE);
    }
  }
  return reply;
}

}  // namespace bgfs::cli
