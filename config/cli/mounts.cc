#include "config/cli/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "config/diagnostic.h"
#include "fuse/fuse_export.h"
#include "fuse/mountinfo.h"
#include "fuse/unique_fd.h"
#include "graph/async/make_loop.h"

namespace bgfs::cli {
namespace {

using fuse::Device;
using fuse::Mounted;
using fuse::NameFolder;
using fuse::UniqueFd;
using fuse::UnmountMode;

// A loop's tasks; what they refer to is kept by whoever blocks on them.
Task<void> StartFolder(Loop* loop, Device device, NameFolder::Options options,
                       std::function<void(int)> on_disconnect,
                       std::unique_ptr<NameFolder>* folder) {
  *folder = std::make_unique<NameFolder>(loop, std::move(device), options);
  (*folder)->Start(
      [told = std::move(on_disconnect)] { told(MountPoint::kFolder); });
  co_return;
}

Task<void> AddToFolder(NameFolder* folder, std::string name) {
  folder->Add(name);
  co_return;
}

Task<void> EndFolder(std::unique_ptr<NameFolder>* folder) {
  co_await (*folder)->Stop();
  folder->reset();
}

Task<absl::Status> ServeExport(BlockExport* block_export, Device device,
                               int number,
                               std::function<void(int)> on_disconnect) {
  // Only fuse exports are made (daemon.cc).
  auto* item = static_cast<fuse::FuseExport*>(block_export);
  absl::Status served = item->Serve(
      std::move(device), [item, number, told = std::move(on_disconnect)] {
        // Nobody can come back to it: it flushes and closes now.
        item->RequestShutdown();
        told(number);
      });
  if (!served.ok()) co_return served;
  co_return co_await item->WaitSettled();
}

// A second mount of the same connection, attached nowhere: keeps it alive, so
// that it can be put back. Invalid where the kernel does not allow it.
UniqueFd KeepMount(const fuse::Place& place) {
  return UniqueFd(open_tree(AT_FDCWD, place.path.c_str(),
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                                AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT));
}

// How long a mount may be busy with nobody to be seen who holds it: a path that
// is being walked does that for a moment, by another bgfs umount, say.
constexpr auto kPassingLimit = std::chrono::milliseconds(500);
constexpr auto kPassingPause = std::chrono::milliseconds(5);

bool PutBack(const UniqueFd& mount, const std::string& path) {
  return mount.valid() && move_mount(mount.get(), "", AT_FDCWD, path.c_str(),
                                     MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

}  // namespace

absl::Status CheckFolder(const proto::Config& config,
                         const std::string& folder) {
  if (config.exports().empty()) {
    return absl::FailedPreconditionError(
        "the configuration has no exports: add exports { ... }");
  }
  for (const proto::Export& item : config.exports()) {
    if (item.fuse().has_mountpoint() || !folder.empty()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("export ", config::Quote(item.id()),
                     " has no mountpoint: give the folder where it appears"));
  }
  if (folder.empty()) return absl::OkStatus();
  const absl::StatusOr<fuse::Place> place = fuse::Locate(folder);
  if (!place.ok() || place->is_folder) {
    return absl::OkStatus();  // What is missing is found when it is mounted.
  }
  return absl::FailedPreconditionError(
      absl::StrCat("mount point ", config::Quote(folder),
                   " is not a folder: give an empty folder"));
}

absl::Status DetachDead(const std::string& path) {
  while (fuse::IsDeadMount(path)) {
    if (absl::Status s = fuse::Unmount(path, UnmountMode::kLazy); !s.ok()) {
      return s;
    }
  }
  return absl::OkStatus();
}

bool Mounts::InFolder(int number) const {
  const auto found = live_->exports().find(number);
  return found != live_->exports().end() &&
         !found->second.item.fuse().has_mountpoint() && !layout_.one_file;
}

absl::Status Mounts::Mount(const std::vector<int>& exports) {
  const bool had_folder = folder_ != nullptr;
  absl::Cleanup undo = [this, &exports, had_folder] {
    Detach(exports);
    PutAllBack();
    if (had_folder || folder_ == nullptr) return;
    Forget({MountPoint::kFolder});
    StopFolder();
  };
  for (const int number : exports) {
    if (absl::Status s = PutAside(number); !s.ok()) return s;
  }
  for (const int number : exports) {
    if (!InFolder(number)) continue;
    if (absl::Status s = AddName(number); !s.ok()) return s;
  }
  for (const int number : exports) {
    if (absl::Status s = MountExport(number); !s.ok()) return s;
  }
  std::move(undo).Cancel();
  return absl::OkStatus();
}

absl::Status Mounts::PutAside(int number) {
  const std::string& id = live_->exports().at(number).item.id();
  const auto point = std::find_if(
      points_.begin(), points_.end(),
      [this, number, &id](const MountPoint& at) {
        return at.export_number != MountPoint::kFolder &&
               at.export_number != number &&
               live_->exports().at(at.export_number).item.id() == id;
      });
  if (point == points_.end()) return absl::OkStatus();
  UniqueFd kept = KeepMount(point->place);
  if (!kept.valid()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "export ", config::Quote(id),
        " cannot be put aside here, which takes root and Linux 5.2; remove it "
        "first, and add it then"));
  }
  absl::Status gone = fuse::Unmount(point->place, UnmountMode::kLazy);
  if (!gone.ok()) return gone;
  // Its name stays for the other one.
  if (named_.erase(point->export_number) > 0) named_.insert(number);
  aside_.push_back({*point, std::move(kept)});
  points_.erase(point);
  return absl::OkStatus();
}

void Mounts::PutAllBack() {
  for (Aside& aside : aside_) {
    const int number = aside.point.export_number;
    if (InFolder(number) && !named_.contains(number)) {
      AddName(number).IgnoreError();
    }
    if (!PutBack(aside.kept, aside.point.place.path)) continue;
    absl::StatusOr<fuse::Place> place = fuse::Locate(aside.point.place.path);
    if (place.ok()) aside.point.place = *std::move(place);
    points_.push_back(aside.point);
  }
  aside_.clear();
}

void Mounts::Detach(const std::vector<int>& exports) {
  Forget(exports);
  aside_.erase(std::remove_if(aside_.begin(), aside_.end(),
                              [&exports](const Aside& aside) {
                                return std::find(exports.begin(), exports.end(),
                                                 aside.point.export_number) !=
                                       exports.end();
                              }),
               aside_.end());
  for (const int number : exports) {
    if (named_.erase(number) == 0) continue;
    const std::string& name = live_->exports().at(number).item.id();
    if (folder_ != nullptr) {
      BlockOn(*folder_loop_, folder_->Remove(name));
      continue;
    }
    const std::string path = absl::StrCat(layout_.folder, "/", name);
    unlink(path.c_str());
    placeholders_.erase(
        std::remove(placeholders_.begin(), placeholders_.end(), path),
        placeholders_.end());
  }
}

void Mounts::Forget(const std::vector<int>& exports) {
  for (const int number : exports) {
    const auto point = std::find_if(
        points_.begin(), points_.end(),
        [number](const MountPoint& at) { return at.export_number == number; });
    if (point == points_.end()) continue;
    // What is not there needs no detaching.
    fuse::Unmount(point->place, UnmountMode::kLazy).IgnoreError();
    points_.erase(point);
  }
}

absl::Status Mounts::AddName(int number) {
  const std::string& name = live_->exports().at(number).item.id();
  if (named_.contains(number)) return absl::OkStatus();
  if (geteuid() != 0) {
    // An ordinary user may not mount over a file of a FUSE folder.
    const std::string path = absl::StrCat(layout_.folder, "/", name);
    if (absl::Status s = MakePlaceholder(path); !s.ok()) return s;
    named_.insert(number);
    return absl::OkStatus();
  }
  if (folder_ == nullptr) {
    if (absl::Status s = MountFolder(); !s.ok()) return s;
  }
  if (live_->exports().at(number).item.fuse().allow_other() &&
      !folder_allows_other_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "export ", config::Quote(name), ": allow_other cannot be had in a ",
        "folder that was mounted without it; give it a mountpoint"));
  }
  named_.insert(number);
  BlockOn(*folder_loop_, AddToFolder(folder_.get(), name));
  return absl::OkStatus();
}

absl::Status Mounts::MountFolder() {
  fuse::MountOptions options;
  options.fsname = layout_.source;
  options.read_only = true;
  for (const auto& [number, item] : live_->exports()) {
    if (InFolder(number) && item.item.fuse().allow_other()) {
      options.allow_other = true;
    }
  }
  folder_allows_other_ = options.allow_other;
  auto loop = MakeLoop("bgfs-names");
  if (!loop.ok()) return loop.status();
  absl::StatusOr<Mounted> mounted = fuse::Mount(layout_.folder, options);
  if (!mounted.ok()) return mounted.status();
  folder_loop_ = *std::move(loop);
  points_.push_back({MountPoint::kFolder, "", mounted->place, mounted->device});
  NameFolder::Options folder_options;
  folder_options.uid = getuid();
  folder_options.gid = getgid();
  BlockOn(*folder_loop_,
          StartFolder(folder_loop_.get(), std::move(mounted->device),
                      folder_options, on_disconnect_, &folder_));
  return absl::OkStatus();
}

absl::Status Mounts::MakePlaceholder(const std::string& path) {
  const int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd file(open(path.c_str(), flags, 0600));
  struct stat st = {};
  if (!file.valid() || fstat(file.get(), &st) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot make \"", path, "\": ", std::strerror(errno)));
  }
  if (!S_ISREG(st.st_mode) || st.st_size != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("\"", path, "\" is in the way: give an empty folder"));
  }
  placeholders_.push_back(path);
  return absl::OkStatus();
}

fuse::MountOptions Mounts::OptionsFor(const config::LiveExport& item) const {
  fuse::MountOptions options;
  options.fsname = layout_.source;
  options.read_only = !item.item.writable();
  options.allow_other = item.item.fuse().allow_other();
  return options;
}

absl::Status Mounts::MountExport(int number) {
  const config::LiveExport& item = live_->exports().at(number);
  const bool own_place = item.item.fuse().has_mountpoint();
  const std::string in_folder =
      absl::StrCat(layout_.folder, "/", item.item.id());
  std::string path = own_place ? item.item.fuse().mountpoint() : in_folder;
  if (!own_place && layout_.one_file) path = layout_.folder;
  absl::StatusOr<Mounted> mounted = fuse::Mount(path, OptionsFor(item));
  if (!mounted.ok()) return mounted.status();
  MountPoint point{number, mounted->place.path, mounted->place,
                   mounted->device};
  if (path == layout_.folder) {
    point.file = absl::StrCat(mounted->place.path, "/", item.item.id());
  }
  points_.push_back(std::move(point));
  return BlockOn(
      *live_->home(item.part),
      ServeExport(item.block_export.get(), std::move(mounted->device), number,
                  on_disconnect_));
}

std::vector<fuse::Holder> Mounts::HoldersOf(
    const MountPoint& point, const fuse::HolderSearch& search) const {
  absl::StatusOr<fuse::MountEntry> entry =
      fuse::FindMount(point.place.mount_id);
  // The kernel gives the numbers of what is gone to others.
  if (!entry.ok() || entry->device != point.place.device ||
      entry->mount_point != point.place.path) {
    return {};
  }
  std::vector<fuse::Holder> holders = fuse::FindHolders(*entry, search);
  const bool folder = point.export_number == MountPoint::kFolder;
  const auto is_ours = [this, folder](const fuse::Holder& holder) {
    // A loop device holds the file below the folder, which tells of it itself.
    return holder.pid == getpid() || (folder && holder.what == "loop device") ||
           (holder.what == "mount" &&
            std::any_of(points_.begin(), points_.end(),
                        [&holder](const MountPoint& other) {
                          return other.place.path == holder.comm;
                        }));
  };
  holders.erase(std::remove_if(holders.begin(), holders.end(), is_ours),
                holders.end());
  return holders;
}

absl::Status Mounts::UnmountOne(const MountPoint& point) const {
  const auto deadline = std::chrono::steady_clock::now() + kPassingLimit;
  for (;;) {
    absl::Status s = fuse::Unmount(point.place, UnmountMode::kPlain);
    if (!absl::IsFailedPrecondition(s)) return s;
    // Not those that it names: what is kept is ours and looks like a user.
    const std::string holders = fuse::DescribeHolders(HoldersOf(point));
    if (!holders.empty() || std::chrono::steady_clock::now() > deadline) {
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot unmount ", config::Quote(point.place.path), ": in use by ",
          holders.empty() ? "a process that cannot be seen from here" : holders,
          "; end that, or use --force"));
    }
    std::this_thread::sleep_for(kPassingPause);
  }
}

absl::Status Mounts::UnmountAll() {
  struct Gone {
    MountPoint* point;
    UniqueFd kept;
  };
  std::vector<Gone> gone;
  for (auto point = points_.rbegin(); point != points_.rend(); ++point) {
    UniqueFd kept = KeepMount(point->place);
    absl::Status s = UnmountOne(*point);
    if (absl::IsNotFound(s)) continue;
    if (s.ok()) {
      gone.push_back({&*point, std::move(kept)});
      continue;
    }
    for (auto it = gone.rbegin(); it != gone.rend(); ++it) {
      if (!PutBack(it->kept, it->point->place.path)) continue;
      absl::StatusOr<fuse::Place> place = fuse::Locate(it->point->place.path);
      if (place.ok()) it->point->place = *std::move(place);
    }
    return s;
  }
  for (const std::string& path : placeholders_) unlink(path.c_str());
  placeholders_.clear();
  return absl::OkStatus();
}

void Mounts::DetachAll() {
  for (const MountPoint& point : points_) {
    // What is not there needs no detaching.
    fuse::Unmount(point.place, UnmountMode::kLazy).IgnoreError();
  }
  for (const std::string& path : placeholders_) unlink(path.c_str());
  placeholders_.clear();
}

void Mounts::StopFolder() {
  if (folder_ == nullptr) return;
  BlockOn(*folder_loop_, EndFolder(&folder_));
  folder_loop_ = nullptr;
}

}  // namespace bgfs::cli
