#include "fuse/mountinfo.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "fuse/unique_fd.h"

namespace bgfs::fuse {
namespace {

// The kernel writes space, tab, newline and backslash as \ooo.
std::string Unescape(absl::string_view text) {
  std::string out;
  auto octal = [&](size_t i) { return text[i] >= '0' && text[i] <= '7'; };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && text.size() - i > 3 && octal(i + 1) &&
        octal(i + 2) && octal(i + 3)) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 +
                                      (text[i + 2] - '0') * 8 +
                                      (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// Who mounted a FUSE file system: "rw,user_id=1000,group_id=1000".
uid_t UserOf(absl::string_view super_options) {
  uid_t user = 0;
  for (absl::string_view option : absl::StrSplit(super_options, ',')) {
    if (absl::ConsumePrefix(&option, "user_id=") &&
        !absl::SimpleAtoi(option, &user)) {
      return 0;
    }
  }
  return user;
}

// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": a number of
// optional fields, possibly none, stands before the dash.
bool ParseLine(absl::string_view line, MountEntry& entry) {
  const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
  if (fields.size() < 6) return false;
  size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 2 >= fields.size()) return false;
  const std::pair<absl::string_view, absl::string_view> device =
      absl::StrSplit(fields[2], absl::MaxSplits(':', 1));
  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (!absl::SimpleAtoi(fields[0], &entry.id) ||
      !absl::SimpleAtoi(fields[1], &entry.parent_id) ||
      !absl::SimpleAtoi(device.first, &major_number) ||
      !absl::SimpleAtoi(device.second, &minor_number)) {
    return false;
  }
  entry.device = makedev(major_number, minor_number);
  entry.root = Unescape(fields[3]);
  entry.mount_point = Unescape(fields[4]);
  entry.options = std::string(fields[5]);
  entry.type = Unescape(fields[dash + 1]);
  entry.source = Unescape(fields[dash + 2]);
  if (dash + 3 < fields.size()) entry.user = UserOf(fields[dash + 3]);
  return true;
}

absl::Status PathError(int error, absl::string_view what,
                       const std::string& path) {
  const std::string text =
      absl::StrCat(what, " \"", path, "\": ", strerror(error));
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(text)
                                             : absl::UnavailableError(text);
}

}  // namespace

std::vector<MountEntry> ParseMountInfo(absl::string_view text) {
  std::vector<MountEntry> entries;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    MountEntry entry;
    if (ParseLine(line, entry)) entries.push_back(std::move(entry));
  }
  return entries;
}

uint64_t MountNamespace() {
  struct stat st = {};
  return stat("/proc/self/ns/mnt", &st) == 0 ? st.st_ino : 0;
}

std::string ReadProcFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char chunk[16384];
  while (fd.valid()) {
    const ssize_t n = read(fd.get(), chunk, sizeof(chunk));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(chunk, static_cast<size_t>(n));
  }
  return text;
}

absl::StatusOr<std::vector<MountEntry>> ReadMountInfo() {
  std::vector<MountEntry> entries =
      ParseMountInfo(ReadProcFile("/proc/self/mountinfo"));
  if (entries.empty()) {
    return absl::UnavailableError(
        "cannot read /proc/self/mountinfo: is /proc mounted?");
  }
  return entries;
}

absl::StatusOr<Place> Locate(const std::string& path) {
  // O_PATH, an empty statx mask and DONT_SYNC: none of them asks the file
  // system that is mounted there.
  UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.valid()) return PathError(errno, "cannot find", path);
  struct statx st = {};
  if (statx(fd.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) != 0) {
    return PathError(errno, "cannot look at", path);
  }
  const std::string link = absl::StrCat("/proc/self/fd/", fd.get());
  char resolved[PATH_MAX];
  const ssize_t length = readlink(link.c_str(), resolved, sizeof(resolved));
  if (length <= 0 || length == PATH_MAX) {
    return PathError(length < 0 ? errno : ENAMETOOLONG, "cannot resolve", path);
  }
  Place place;
  place.path.assign(resolved, static_cast<size_t>(length));
  place.mount_id = st.stx_mnt_id;
  place.device = makedev(st.stx_dev_major, st.stx_dev_minor);
  place.is_folder = S_ISDIR(st.stx_mode);
  place.is_mount_root = (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  return place;
}

absl::StatusOr<MountEntry> FindMount(uint64_t mount_id) {
  absl::StatusOr<std::vector<MountEntry>> entries = ReadMountInfo();
  if (!entries.ok()) return entries.status();
  for (MountEntry& entry : *entries) {
    if (entry.id == mount_id) return std::move(entry);
  }
  return absl::NotFoundError(absl::StrCat("no mount has the id ", mount_id));
}

}  // namespace bgfs::fuse
