#include "fuse/holders.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace bgfs::fuse {
namespace {

constexpr size_t kMaxDescribed = 8;

// What a search has found so far, for whoever may not wait for its end.
class Findings {
 public:
  void Add(Holder holder) {
    const std::lock_guard<std::mutex> lock(mutex_);
    holders_.push_back(std::move(holder));
  }
  void End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  std::vector<Holder> Take(std::chrono::milliseconds limit) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, limit, [this] { return ended_; });
    return std::exchange(holders_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Holder> holders_;
  bool ended_ = false;
};

void ForEachName(const std::string& folder,
                 absl::FunctionRef<void(absl::string_view)> use) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') use(entry->d_name);
  }
  closedir(dir);
}

// Follows a link of /proc without asking the file system behind it.
bool LeadsInto(const std::string& link, dev_t device) {
  struct statx st = {};
  return statx(AT_FDCWD, link.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0,
               &st) == 0 &&
         makedev(st.stx_dev_major, st.stx_dev_minor) == device;
}

// A mapping outlives its descriptor; the fourth column of maps is the device.
bool Maps(const std::string& process, dev_t device) {
  const std::string wanted =
      absl::StrFormat("%02x:%02x", major(device), minor(device));
  const std::string maps = ReadProcFile(process + "/maps");
  for (absl::string_view line : absl::StrSplit(maps, '\n')) {
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::MaxSplits(' ', 4));
    if (fields.size() > 4 && fields[3] == wanted) return true;
  }
  return false;
}

std::string HoldOf(const std::string& process, dev_t device) {
  std::string what;
  ForEachName(process + "/fd", [&](absl::string_view name) {
    if (what.empty() && LeadsInto(absl::StrCat(process, "/fd/", name), device))
      what = "open file";
  });
  if (!what.empty()) return what;
  if (LeadsInto(process + "/cwd", device)) return "current folder";
  if (LeadsInto(process + "/root", device)) return "root folder";
  if (LeadsInto(process + "/exe", device)) return "running program";
  if (Maps(process, device)) return "mapped file";
  return "";
}

void AddProcesses(const std::string& proc, dev_t device, Findings& found) {
  ForEachName(proc, [&](absl::string_view name) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(name, &pid)) return;
    const std::string process = absl::StrCat(proc, "/", name);
    const std::string what = HoldOf(process, device);
    if (what.empty()) return;
    const std::string comm = ReadProcFile(process + "/comm");
    found.Add(
        {pid, std::string(absl::StripTrailingAsciiWhitespace(comm)), what});
  });
}

bool IsBelow(absl::string_view path, absl::string_view folder) {
  return path == folder || (absl::ConsumePrefix(&path, folder) &&
                            (absl::StartsWith(path, "/") || folder == "/"));
}

void AddLoopDevices(const std::string& mount_point, Findings& found) {
  ForEachName("/sys/block", [&](absl::string_view name) {
    if (!absl::StartsWith(name, "loop")) return;
    const std::string file =
        ReadProcFile(absl::StrCat("/sys/block/", name, "/loop/backing_file"));
    if (file.empty()) return;
    if (IsBelow(absl::StripSuffix(file, "\n"), mount_point)) {
      found.Add({0, absl::StrCat("/dev/", name), "loop device"});
    }
  });
}

void Search(const MountEntry& mount, const std::string& proc, Findings& found) {
  AddLoopDevices(mount.mount_point, found);
  absl::StatusOr<std::vector<MountEntry>> mounts = ReadMountInfo();
  if (mounts.ok()) {
    for (const MountEntry& other : *mounts) {
      if (other.parent_id == mount.id && other.id != mount.id) {
        found.Add({0, other.mount_point, "mount"});
      }
    }
  }
  AddProcesses(proc, mount.device, found);
}

}  // namespace

std::vector<Holder> FindHolders(const MountEntry& mount,
                                const HolderSearch& search) {
  auto found = std::make_shared<Findings>();
  std::thread([mount, proc = search.proc, found] {
    Search(mount, proc, *found);
    found->End();
  }).detach();
  return found->Take(search.limit);
}

std::string DescribeHolders(const std::vector<Holder>& holders) {
  std::string text;
  for (size_t i = 0; i < holders.size(); ++i) {
    if (i == kMaxDescribed) {
      absl::StrAppend(&text, " and ", holders.size() - i, " more");
      break;
    }
    const Holder& holder = holders[i];
    absl::StrAppend(&text, i == 0 ? "" : ", ", holder.comm, " (");
    if (holder.pid != 0) absl::StrAppend(&text, "pid ", holder.pid, ", ");
    absl::StrAppend(&text, holder.what, ")");
  }
  return text;
}

}  // namespace bgfs::fuse
