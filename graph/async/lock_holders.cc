#include "graph/async/lock_holders.h"

#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace bgfs {
namespace {

namespace fs = std::filesystem;

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

std::string DescribeHoldersOfLocks(dev_t device, ino_t inode) {
  const std::string file_id =
      absl::StrFormat(" %02x:%02x:%d ", major(device), minor(device), inode);
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
