// What doctor makes of each thing that can be missing.

#include "config/cli/system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "fuse/abi.h"

namespace bgfs::cli {
namespace {

using fuse::RingSupport;
using ::testing::HasSubstr;

// Everything is there.
System Ideal() {
  System system;
  system.ring.enable_uring = RingSupport::Switch::kOn;
  system.ring.fusectl = true;
  system.ring.possible_cpus = 2;
  system.ring.memory_bytes = 68 << 20;
  system.ring.memory = true;
  system.agreement.init_flags =
      fuse::kInitOverIoUring | fuse::kInitDirectIoAllowMmap;
  system.agreement.direct_open_flags = FOPEN_PARALLEL_DIRECT_WRITES;
  return system;
}

// Everything, for an ordinary user.
System IdealUser() {
  System system = Ideal();
  system.root = false;
  system.fusermount = "/usr/bin/fusermount3";
  system.fusermount_setuid = true;
  system.user_allow_other = true;
  return system;
}

void ExpectOne(const System& system, bool fatal, const std::string& what,
               const std::string& advice) {
  const Verdict verdict = Judge(system);
  ASSERT_EQ(verdict.findings.size(), 1U) << what;
  const Finding& finding = verdict.findings.front();
  EXPECT_EQ(finding.fatal, fatal) << what;
  EXPECT_EQ(verdict.transport.empty(), fatal) << what;
  EXPECT_THAT(finding.lack.what, HasSubstr(what));
  EXPECT_THAT(finding.lack.advice, HasSubstr(advice));
}

// What the ring lacks is no failure, but it goes over /dev/fuse for it.
void ExpectDev(const System& system, const std::string& what,
               const std::string& advice) {
  ExpectOne(system, false, what, advice);
  const Verdict verdict = Judge(system);
  EXPECT_EQ(verdict.transport, "/dev/fuse");
  EXPECT_THAT(verdict.reason, HasSubstr(what));
}

TEST(Judge, FindsNothingWhereNothingIsMissing) {
  for (const System& system : {Ideal(), IdealUser()}) {
    const Verdict verdict = Judge(system);
    EXPECT_EQ(verdict.transport, "io_uring");
    EXPECT_TRUE(verdict.findings.empty());
  }
}

TEST(Judge, TheDevice) {
  System system = Ideal();
  system.mount = absl::UnavailableError("cannot mount");
  system.device_error = ENOENT;
  ExpectOne(system, true, "no /dev/fuse", "modprobe fuse");
  system.device_error = EPERM;
  ExpectOne(system, true, "Operation not permitted", "container");
  system = IdealUser();
  system.mount = absl::UnavailableError("cannot mount");
  system.device_error = EACCES;
  ExpectOne(system, true, "Permission denied", "chmod 0666 /dev/fuse");
}

TEST(Judge, Fusermount) {
  System system = IdealUser();
  system.fusermount.clear();
  EXPECT_TRUE(Judge(system).findings.empty());  // A mount works all the same.
  system.mount = absl::UnavailableError("cannot mount");
  ExpectOne(system, true, "no fusermount3", "fuse3");
  system.fusermount = "/usr/bin/fusermount3";
  system.fusermount_setuid = false;
  ExpectOne(system, true, "not setuid root", "chmod u+s /usr/bin/fusermount3");
  system.user_namespace = true;
  ExpectOne(system, true, "not root in this user namespace", "unshare --user");
  system.fusermount.clear();
  ExpectOne(system, true, "not root in this user namespace", "unshare --user");
}

TEST(Judge, AllowOther) {
  System system = IdealUser();
  system.user_allow_other = false;
  ExpectOne(system, false, "allow_other", "/etc/fuse.conf");
  EXPECT_EQ(Judge(system).transport, "io_uring");
  system.root = true;
  EXPECT_TRUE(Judge(system).findings.empty());
}

TEST(Judge, IoUring) {
  System system = Ideal();
  system.uring = absl::PermissionDeniedError("Operation not permitted");
  ExpectOne(system, false, "io_uring is not to be had", "seccomp");
  system.io_uring_disabled = 1;  // Not for root.
  ExpectOne(system, false, "io_uring is not to be had", "seccomp");
  system.user_namespace = true;  // Whose root does not count.
  ExpectOne(system, false, "io_uring", "sysctl kernel.io_uring_disabled=0");
  system.user_namespace = false;
  system.io_uring_disabled = 2;
  ExpectOne(system, false, "io_uring", "sysctl kernel.io_uring_disabled=0");
  system.io_uring_disabled = 0;
  system.uring = absl::InvalidArgumentError("Invalid argument");
  ExpectOne(system, false, "io_uring", "Linux 6.1");
  system.uring = absl::ResourceExhaustedError("Cannot allocate memory");
  ExpectOne(system, false, "io_uring", "ulimit -l");
  system = IdealUser();
  system.uring = absl::PermissionDeniedError("Operation not permitted");
  system.io_uring_disabled = 1;
  ExpectOne(system, false, "io_uring", "sysctl kernel.io_uring_disabled=0");
  EXPECT_EQ(Judge(system).transport, "/dev/fuse");
}

TEST(Judge, NoLoopAtAll) {
  System system = Ideal();
  system.loop = absl::ResourceExhaustedError("Too many open files");
  ExpectOne(system, true, "Too many open files", "ulimit -n");
}

TEST(Judge, ControlFolder) {
  System system = Ideal();
  system.control_folder = absl::UnavailableError("cannot make \"/run/bgfs\"");
  ExpectOne(system, true, "/run/bgfs", "bgfs status");
}

TEST(Judge, AMountThatFailsForNoReasonThatIsKnown) {
  System system = Ideal();
  system.mount = absl::UnavailableError("cannot mount: strange");
  ExpectOne(system, true, "strange", "CAP_SYS_ADMIN");
}

TEST(Judge, OlderKernels) {
  System system = Ideal();
  system.agreement.direct_open_flags = 0;
  ExpectOne(system, false, "direct writes", "Linux 6.2");
  system = Ideal();
  system.agreement.init_flags = fuse::kInitOverIoUring;
  ExpectOne(system, false, "mmap", "Linux 6.6");
  system = Ideal();
  system.ring.enable_uring = RingSupport::Switch::kMissing;
  ExpectDev(system, "has no FUSE over io_uring", "Linux 6.14");
}

TEST(Judge, TheRing) {
  System system = Ideal();
  system.ring.enable_uring = RingSupport::Switch::kOff;
  ExpectDev(system, "switched off",
            "echo 1 > /sys/module/fuse/parameters/enable_uring");
  ExpectDev(system, "switched off", "fuse.enable_uring=1");
  system.ring.module = true;
  ExpectDev(system, "switched off", "modprobe.d");
  system = Ideal();
  system.ring.fusectl = false;
  ExpectDev(system, "no fusectl", "mount -t fusectl");
  system = Ideal();
  system.ring.possible_cpus = 0;
  ExpectDev(system, "CPUs", "sysfs");
  system = Ideal();
  system.ring.memory = false;
  ExpectDev(system, "68 MiB", "ulimit -v");
  system = Ideal();
  system.agreement.init_flags = fuse::kInitDirectIoAllowMmap;
  ExpectDev(system, "did not offer", "dmesg");
}

TEST(Judge, TellsAllThatIsMissing) {
  System system = IdealUser();
  system.user_allow_other = false;
  system.ring.enable_uring = RingSupport::Switch::kOff;
  system.ring.fusectl = false;
  EXPECT_EQ(Judge(system).findings.size(), 3U);
}

}  // namespace
}  // namespace bgfs::cli
