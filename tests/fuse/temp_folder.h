// What the tests of mounts share: a scratch folder that cleans up after itself,
// and the question whether mounting is possible here at all.
#ifndef BGFS_TESTS_FUSE_TEMP_FOLDER_H_
#define BGFS_TESTS_FUSE_TEMP_FOLDER_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "fuse/ring_support.h"

namespace bgfs::fuse {

inline bool TestsUring() {
  const char* transport = std::getenv("BGFS_TRANSPORT");
  return transport != nullptr && std::string(transport) == "io_uring";
}

// Empty where it is possible.
inline std::string WhyNoMount(bool over_uring) {
  if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
    return "needs root and /dev/fuse";
  }
  if (!over_uring) return "";
  const absl::Status ring = RequireRing();
  return ring.ok() ? ""
                   : "needs FUSE over io_uring: " + std::string(ring.message());
}

#define BGFS_NEEDS_FUSE()                                   \
  if (const std::string why =                               \
          bgfs::fuse::WhyNoMount(bgfs::fuse::TestsUring()); \
      !why.empty()) {                                       \
    GTEST_SKIP() << why;                                    \
  }                                                         \
  static_assert(true)

class TempFolder {
 public:
  TempFolder() {
    char name[] = "/tmp/bgfs_test.XXXXXX";
    path_ = mkdtemp(name);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    for (const auto& name : {"/mnt", "/file"}) {
      while (umount2((path_ + name).c_str(), MNT_DETACH) == 0) {
      }
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  // Names that are unmounted at the end.
  std::string MakeFolder() const {
    std::filesystem::create_directory(path_ + "/mnt");
    return path_ + "/mnt";
  }
  std::string MakeFile() const {
    close(
        open((path_ + "/file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    return path_ + "/file";
  }

 private:
  std::string path_;
};

// A test that serves its own mount cannot even be killed while it waits for
// itself: after a while the connection is aborted, so that the test fails.
class Watchdog {
 public:
  explicit Watchdog(std::string path)
      : thread_([this, path = std::move(path)] {
          if (over_.WaitForNotificationWithTimeout(absl::Seconds(60))) return;
          ADD_FAILURE() << "hangs; aborted";
          umount2(path.c_str(), MNT_FORCE);
        }) {}
  ~Watchdog() {
    over_.Notify();
    thread_.join();
  }

 private:
  absl::Notification over_;
  std::thread thread_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_TESTS_FUSE_TEMP_FOLDER_H_
