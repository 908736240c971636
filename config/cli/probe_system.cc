// How doctor asks the kernel.

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "config/cli/system.h"
#include "config/control.h"
#include "fuse/abi.h"
#include "fuse/mount.h"
#include "fuse/unique_fd.h"
#include "graph/async/make_loop.h"
#include "graph/async/uring_loop.h"

namespace bgfs::cli {
namespace {

// The kernel says INIT when it mounts.
constexpr int kInitLimitMs = 2000;

int DeviceError() {
  const fuse::UniqueFd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  return device.valid() ? 0 : errno;
}

void FindFusermount(System* system) {
  const char* path = std::getenv("PATH");
  for (const absl::string_view folder :
       absl::StrSplit(path == nullptr ? "/usr/bin:/bin" : path, ':')) {
    const std::string file = absl::StrCat(folder, "/fusermount3");
    struct stat st = {};
    if (access(file.c_str(), X_OK) != 0 || stat(file.c_str(), &st) != 0) {
      continue;
    }
    system->fusermount = file;
    system->fusermount_setuid = st.st_uid == 0 && (st.st_mode & S_ISUID) != 0;
    return;
  }
}

bool UserAllowOther() {
  const std::string text = fuse::ReadProcFile("/etc/fuse.conf");
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  return std::any_of(lines.begin(), lines.end(), [](absl::string_view line) {
    return absl::StripAsciiWhitespace(line) == "user_allow_other";
  });
}

// In the first one each id is itself (user_namespaces(7)).
bool InUserNamespace() {
  const std::string map = fuse::ReadProcFile("/proc/self/uid_map");
  const std::vector<absl::string_view> fields =
      absl::StrSplit(map, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  return !fields.empty() &&
         fields != std::vector<absl::string_view>{"0", "0", "4294967295"};
}

int IoUringDisabled() {
  int value = 0;
  const std::string text =
      fuse::ReadProcFile("/proc/sys/kernel/io_uring_disabled");
  return absl::SimpleAtoi(text, &value) ? value : 0;
}

// The first thing a kernel says on a connection, and what it is answered.
absl::StatusOr<fuse::Agreement> ReadInit(const fuse::Device& device,
                                         const fuse::KernelMask& mask) {
  pollfd speaks = {device.get(), POLLIN, 0};
  while (poll(&speaks, 1, kInitLimitMs) < 0 && errno == EINTR) {
  }
  std::array<char, FUSE_MIN_READ_BUFFER> message = {};
  const ssize_t length = read(device.get(), message.data(), message.size());
  fuse_in_header header = {};
  if (length < static_cast<ssize_t>(sizeof(header))) {
    return absl::UnavailableError("a mount was made, but the kernel is silent");
  }
  std::memcpy(&header, message.data(), sizeof(header));
  fuse_init_in init = {};
  std::memcpy(&init, message.data() + sizeof(header),
              std::min(length - sizeof(header), sizeof(init)));
  const fuse::Carries carries = {.max_write_bytes = 1 << 20,
                                 .init_flags = fuse::kInitOverIoUring};
  fuse_init_out out = {};
  fuse::Agreement agreement;
  if (header.opcode != FUSE_INIT ||
      !fuse::Negotiate(init, mask, carries, &out, &agreement).ok()) {
    return absl::UnimplementedError(absl::StrCat("the kernel speaks FUSE ",
                                                 init.major, ".", init.minor,
                                                 ": use Linux 6.1 or newer"));
  }
  return agreement;
}

// An empty folder, mounted and let go.
absl::StatusOr<fuse::Agreement> TryMount(const fuse::KernelMask& mask) {
  const char* base = std::getenv("TMPDIR");
  std::string folder = absl::StrCat(
      base == nullptr || *base == 0 ? "/tmp" : base, "/bgfs-doctor-XXXXXX");
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "cannot make a folder like ", folder, ": ", std::strerror(errno)));
  }
  const absl::Cleanup remove = [&folder] { rmdir(folder.c_str()); };
  fuse::MountOptions options;
  options.fsname = "bgfs-doctor";
  absl::StatusOr<fuse::Mounted> mounted = fuse::Mount(folder, options);
  if (!mounted.ok()) return mounted.status();
  absl::StatusOr<fuse::Agreement> agreement = ReadInit(mounted->device, mask);
  fuse::Unmount(mounted->place, fuse::UnmountMode::kLazy).IgnoreError();
  return agreement;
}

}  // namespace

System ProbeSystem(const fuse::KernelMask& mask) {
  System system;
  system.root = geteuid() == 0;
  system.user_namespace = InUserNamespace();
  system.device_error = DeviceError();  // Also loads the module.
  FindFusermount(&system);
  system.user_allow_other = UserAllowOther();
  system.loop = MakeLoop("bgfs-doctor").status();
  system.uring =
      UringLoop::Start("bgfs-doctor").status().ToStatus("io_uring_setup");
  system.io_uring_disabled = IoUringDisabled();
  system.control_folder = config::MakeControlFolder();
  system.ring = fuse::ProbeRing();
  absl::StatusOr<fuse::Agreement> agreement = TryMount(mask);
  system.mount = agreement.status();
  if (agreement.ok()) system.agreement = *agreement;
  return system;
}

}  // namespace bgfs::cli
