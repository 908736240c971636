// What this machine offers to a mount, and what is missing: `bgfs doctor`.
//
//   ProbeSystem() ──▶ System ──▶ Judge() ──▶ Verdict
//   asks the kernel   plain      pure        what a mount would get
//
// It asks by trying what a mount does: it opens the device, sets a ring up, and
// mounts an empty folder for a moment, whose INIT tells what the kernel has.
// What decides between the transports is fuse/ring_support.h, for a mount too.

#ifndef BGFS_CONFIG_CLI_SYSTEM_H_
#define BGFS_CONFIG_CLI_SYSTEM_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "fuse/negotiate.h"
#include "fuse/ring_support.h"

namespace bgfs::cli {

// An ideal one if nothing is said.
struct System {
  bool root = true;
  // What is root here is not root of the machine, nor is root's setuid program.
  bool user_namespace = false;
  int device_error = 0;  // errno of opening /dev/fuse
  // What mounts for an ordinary user; empty: in no folder of $PATH.
  std::string fusermount;
  bool fusermount_setuid = false;
  bool user_allow_other = false;  // in /etc/fuse.conf
  absl::Status loop;              // whether a home loop can be started
  absl::Status uring;             // and one on io_uring; else it is threads
  int io_uring_disabled = 0;      // the sysctl; 0 as well where there is none
  absl::Status control_folder;
  fuse::RingSupport ring;
  absl::Status mount;         // whether a mount was made, and spoke
  fuse::Agreement agreement;  // what its INIT came to, if so
};

// Leaves nothing behind but the folder for control sockets, which every mount
// makes. What `mask` hides is not looked for at INIT.
System ProbeSystem(const fuse::KernelMask& mask);

struct Finding {
  fuse::Lack lack;
  bool fatal = false;  // no mount works; else something is lost
};

struct Verdict {
  std::string transport;  // as Transport::name(); empty: no mount works
  std::string reason;
  std::vector<Finding> findings;
};

Verdict Judge(const System& system);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_SYSTEM_H_
