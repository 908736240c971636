#include "config/cli/system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "fuse/abi.h"
#include "fuse/transport.h"

namespace bgfs::cli {
namespace {

using Findings = std::vector<Finding>;

void CheckDevice(const System& system, Findings* findings) {
  switch (system.device_error) {
    case 0:
      return;
    case ENOENT:
    case ENODEV:
    case ENXIO:
      findings->push_back({{"there is no /dev/fuse",
                            "modprobe fuse; for a container, add --device "
                            "/dev/fuse where it is started"},
                           true});
      return;
    default:
      findings->push_back(
          {{absl::StrCat("/dev/fuse cannot be opened (",
                         std::strerror(system.device_error), ")"),
            system.root ? "for a container, allow the device where it is "
                          "started: --device /dev/fuse"
                        : "chmod 0666 /dev/fuse, as root"},
           true});
  }
}

// Where a user may mount himself (a user namespace) he needs no fusermount3.
void CheckFusermount(const System& system, Findings* findings) {
  if (system.root || system.mount.ok()) return;
  if (system.user_namespace && !system.fusermount_setuid) {
    findings->push_back({{"fusermount3, which mounts for ordinary users, is "
                          "not root in this user namespace",
                          "enter it as its root (unshare --user "
                          "--map-root-user --mount), who needs none"},
                         true});
  } else if (system.fusermount.empty()) {
    findings->push_back({{"there is no fusermount3, which mounts for ordinary "
                          "users",
                          "install the package fuse3"},
                         true});
  } else if (!system.fusermount_setuid) {
    findings->push_back(
        {{absl::StrCat(system.fusermount, " is not setuid root"),
          absl::StrCat("chown root ", system.fusermount, " && chmod u+s ",
                       system.fusermount)},
         true});
  }
}

void CheckAllowOther(const System& system, Findings* findings) {
  if (system.root || system.user_allow_other) return;
  findings->push_back(
      {{"allow_other is refused to ordinary users, so nobody "
        "else, root neither, sees what you mount",
        "add a line user_allow_other to /etc/fuse.conf"}});
}

void CheckLoop(const System& system, Findings* findings) {
  if (system.loop.ok()) return;
  findings->push_back(
      {{std::string(system.loop.message()),
        "raise ulimit -n (descriptors) and ulimit -u (threads)"},
       true});
}

void CheckUring(const System& system, Findings* findings) {
  if (system.uring.ok()) return;
  std::string advice =
      "allow io_uring_setup, io_uring_enter and io_uring_register in the "
      "container's seccomp filter";
  if (system.io_uring_disabled == 2 ||
      (system.io_uring_disabled == 1 &&
       (!system.root || system.user_namespace))) {
    advice = "sysctl kernel.io_uring_disabled=0";
  } else if (absl::IsResourceExhausted(system.uring)) {
    advice = "raise ulimit -l (locked memory) and ulimit -n (descriptors)";
  } else if (absl::IsInvalidArgument(system.uring)) {
    advice = "use Linux 6.1 or newer";
  }
  findings->push_back({{absl::StrCat("io_uring is not to be had, so plain "
                                     "threads serve, more slowly (",
                                     system.uring.message(), ")"),
                        std::move(advice)}});
}

void CheckControlFolder(const System& system, Findings* findings) {
  if (system.control_folder.ok()) return;
  findings->push_back({{std::string(system.control_folder.message()),
                        "it is where bgfs status and umount find a daemon"},
                       true});
}

// What the others have not explained.
void CheckMount(const System& system, Findings* findings) {
  const bool explained =
      std::any_of(findings->begin(), findings->end(),
                  [](const Finding& finding) { return finding.fatal; });
  if (system.mount.ok() || explained) return;
  findings->push_back(
      {{std::string(system.mount.message()),
        "it may take CAP_SYS_ADMIN, or a user and mount namespace of one's own "
        "(unshare -Urm)"},
       true});
}

void CheckKernel(const System& system, Findings* findings) {
  if (!system.mount.ok()) return;
  if (!system.agreement.ParallelDirectWrites()) {
    findings->push_back(
        {{"the kernel sends direct writes to a file one after "
          "the other",
          "use Linux 6.2 or newer for parallel ones"}});
  }
  if (!system.agreement.Has(fuse::kInitDirectIoAllowMmap)) {
    findings->push_back(
        {{"the kernel refuses shared mappings (mmap) of the "
          "files",
          "use Linux 6.6 or newer for them"}});
  }
}

void CheckRing(const System& system, Findings* findings) {
  const std::vector<fuse::Lack> lacks = fuse::RingLacks(system.ring);
  for (const fuse::Lack& lack : lacks) findings->push_back({lack});
  if (lacks.empty() && system.mount.ok() &&
      !system.agreement.Has(fuse::kInitOverIoUring)) {
    findings->push_back(
        {{"the kernel did not offer FUSE over io_uring when it "
          "was mounted",
          "see the kernel's log (dmesg)"}});
  }
}

// One for each thing that can be missing; each looks at its own part alone,
// but for CheckMount.
using Check = void (*)(const System&, Findings*);
constexpr Check kChecks[] = {CheckDevice,        CheckFusermount, CheckLoop,
                             CheckControlFolder, CheckMount,      CheckUring,
                             CheckAllowOther,    CheckKernel,     CheckRing};

}  // namespace

Verdict Judge(const System& system) {
  Verdict verdict;
  for (const Check check : kChecks) check(system, &verdict.findings);
  for (const Finding& finding : verdict.findings) {
    if (!finding.fatal) continue;
    verdict.reason = finding.lack.what;
    return verdict;
  }
  Findings ring;
  CheckUring(system, &ring);
  CheckRing(system, &ring);
  verdict.transport =
      std::string(ring.empty() ? fuse::kUringName : fuse::kDevName);
  verdict.reason =
      ring.empty() ? "the kernel offers it" : ring.front().lack.what;
  return verdict;
}

}  // namespace bgfs::cli
