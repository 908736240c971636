#include "graph/async/lock_holders.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace bgfs {
namespace {

namespace fs = std::filesystem;

// The value of a line `name:\tvalue` of /proc/PID/fdinfo/N; empty if none.
std::string FdinfoValue(const fs::path& fdinfo, absl::string_view name) {
  std::ifstream in(fdinfo);
  std::string line;
  while (std::getline(in, line)) {
    absl::string_view value = line;
    if (absl::ConsumePrefix(&value, name)) {
      return std::string(absl::StripLeadingAsciiWhitespace(value));
    }
  }
  return "";
}

// How lock lines name the file: device and inode, the device being that of the
// whole file system, where stat(2) has one of its own for each btrfs subvolume.
// /proc/self/mountinfo knows: `43 27 0:39 / /mnt rw - btrfs /dev/sda rw`.
std::string FileId(int fd) {
  struct stat info{};
  if (fstat(fd, &info) != 0) return "";
  unsigned major_id = major(info.st_dev);
  unsigned minor_id = minor(info.st_dev);
  const std::string mount =
      FdinfoValue(absl::StrCat("/proc/self/fdinfo/", fd), "mnt_id:");
  std::ifstream in("/proc/self/mountinfo");
  std::string line;
  while (std::getline(in, line)) {
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (fields.size() != 4 || fields[0] != mount) continue;
    const std::pair<absl::string_view, absl::string_view> device =
        absl::StrSplit(fields[2], ':');
    if (!absl::SimpleAtoi(device.first, &major_id) ||
        !absl::SimpleAtoi(device.second, &minor_id)) {
      return "";
    }
  }
  return absl::StrFormat(" %02x:%02x:%d ", major_id, minor_id, info.st_ino);
}

// A line reads `lock:  1: OFDLCK ADVISORY READ -1 fe:00:1234 100 100`.
bool HoldsLock(const fs::path& fdinfo, const std::string& file_id) {
  std::ifstream in(fdinfo);
  std::string line;
  while (std::getline(in, line)) {
    if (absl::StartsWith(line, "lock:") && absl::StrContains(line, file_id)) {
      return true;
    }
  }
  return false;
}

bool ProcessHoldsLock(const fs::path& process, const std::string& file_id) {
  std::error_code error;
  fs::directory_iterator it(process / "fdinfo", error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    if (HoldsLock(it->path(), file_id)) return true;
  }
  return false;
}

}  // namespace

std::string DescribeHoldersOfLocks(int fd) {
  const std::string file_id = FileId(fd);
  if (file_id.empty()) return "";
  std::vector<std::string> holders;
  std::error_code error;
  fs::directory_iterator it("/proc", error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string pid = it->path().filename().string();
    int number = 0;
    if (!absl::SimpleAtoi(pid, &number) || number == getpid()) continue;
    if (!ProcessHoldsLock(it->path(), file_id)) continue;
    std::ifstream in(it->path() / "comm");
    std::string command;
    std::getline(in, command);
    holders.push_back(absl::StrCat(command, " (pid ", pid, ")"));
  }
  return absl::StrJoin(holders, ", ");
}

}  // namespace bgfs
