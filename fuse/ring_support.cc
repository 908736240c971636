#include "fuse/ring_support.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "fuse/unique_fd.h"
#include "fuse/uring_transport.h"

namespace bgfs::fuse {
namespace {

constexpr char kSwitch[] = "/sys/module/fuse/parameters/enable_uring";
constexpr char kConnections[] = "/sys/fs/fuse/connections";
// FUSE_CTL_SUPER_MAGIC of fs/fuse/control.c.
constexpr int64_t kFusectlMagic = 0x65735543;
// Modules have it; what is built in has not.
constexpr char kModuleState[] = "/sys/module/fuse/initstate";

RingSupport::Switch ReadSwitch() {
  std::ifstream file(kSwitch);
  char value = 0;
  if (!(file >> value)) return RingSupport::Switch::kMissing;
  return value == 'Y' ? RingSupport::Switch::kOn : RingSupport::Switch::kOff;
}

bool CanMap(size_t bytes) {
  void* memory = SlotPool::MapMemory(bytes);
  if (memory == MAP_FAILED) return false;
  munmap(memory, bytes);
  return true;
}

Lack LackOfSwitch(const RingSupport& support) {
  const absl::string_view keep =
      support.module
          ? "put \"options fuse enable_uring=1\" into a file in /etc/modprobe.d"
          : "boot the kernel with fuse.enable_uring=1";
  return {"FUSE over io_uring is switched off",
          absl::StrCat("echo 1 > ", kSwitch, "; to keep it on, ", keep)};
}

}  // namespace

RingSupport ProbeRing() {
  RingSupport support;
  if (access("/sys/module/fuse", F_OK) != 0) {
    // Opening the device loads the module, where it is one.
    const UniqueFd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  }
  support.enable_uring = ReadSwitch();
  support.module = access(kModuleState, F_OK) == 0;
  struct statfs fs = {};
  support.fusectl =
      statfs(kConnections, &fs) == 0 && fs.f_type == kFusectlMagic;
  support.possible_cpus = UringTransport::PossibleCpus();
  support.memory_bytes = UringTransport::MemoryBytes(support.possible_cpus);
  support.memory = support.memory_bytes > 0 && CanMap(support.memory_bytes);
  return support;
}

std::vector<Lack> RingLacks(const RingSupport& support) {
  std::vector<Lack> lacks;
  if (support.enable_uring == RingSupport::Switch::kMissing) {
    lacks.push_back({"the kernel has no FUSE over io_uring",
                     "use Linux 6.14 or newer with CONFIG_FUSE_IO_URING"});
  } else if (support.enable_uring == RingSupport::Switch::kOff) {
    lacks.push_back(LackOfSwitch(support));
  }
  if (!support.fusectl) {
    lacks.push_back(
        {absl::StrCat("no fusectl file system is mounted at ", kConnections,
                      ", which closing a connection over io_uring takes"),
         absl::StrCat("mount -t fusectl fusectl ", kConnections)});
  }
  if (support.possible_cpus == 0) {
    lacks.push_back({"/sys does not tell how many CPUs are possible",
                     "mount -t sysfs sysfs /sys"});
  } else if (!support.memory) {
    lacks.push_back(
        {absl::StrCat("no address space for the ", support.memory_bytes >> 20,
                      " MiB of entries of ", support.possible_cpus, " queues"),
         "raise ulimit -v"});
  }
  return lacks;
}

absl::Status RingRefused(const Lack& lack) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot carry requests over io_uring: ", lack.what, ": ",
                   lack.advice, "; or leave out --transport=io_uring"));
}

absl::Status RequireRing() {
  const std::vector<Lack> lacks = RingLacks(ProbeRing());
  return lacks.empty() ? absl::OkStatus() : RingRefused(lacks.front());
}

}  // namespace bgfs::fuse
