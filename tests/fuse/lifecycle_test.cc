// How exports and their folder end.

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "fuse/name_folder.h"
#include "tests/fuse/mounted_disk.h"

namespace bgfs::fuse {
namespace {

UniqueFd Open(const std::string& path, int flags) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC));
  EXPECT_TRUE(fd.valid()) << strerror(errno);
  return fd;
}

int ErrnoOfRead(const UniqueFd& fd) {
  char c = 0;
  return pread(fd.get(), &c, 1, 0) < 0 ? errno : 0;
}

int ErrnoOfStat(const std::string& path) {
  struct statx st = {};
  return statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS,
               &st) != 0
             ? errno
             : 0;
}

template <typename Condition>
void WaitFor(Condition condition) {
  for (int tries = 0; !condition(); ++tries) {
    ASSERT_LT(tries, 20'000);
    usleep(1000);
  }
}

TEST(Lifecycle, UnmountEndsTheConnectionAndClosingFlushes) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  {
    UniqueFd fd = Open(disk.path(), O_RDWR);
    EXPECT_EQ(pwrite(fd.get(), "x", 1, 0), 1);
    const absl::Status busy = Unmount(disk.place(), UnmountMode::kPlain);
    EXPECT_TRUE(absl::IsFailedPrecondition(busy)) << busy;
  }
  const int flushes = disk.driver().flushes;
  ASSERT_TRUE(Unmount(disk.place(), UnmountMode::kPlain).ok());
  WaitFor([&] { return disk.disconnected(); });
  EXPECT_TRUE(disk.Close().ok());
  EXPECT_GT(disk.driver().flushes, flushes);
}

TEST(Lifecycle, CloseReportsAFlushThatFailed) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  {
    UniqueFd fd = Open(disk.path(), O_RDWR);
    EXPECT_EQ(pwrite(fd.get(), "x", 1, 0), 1);
  }
  disk.driver().flush_error = EIO;
  ASSERT_TRUE(Unmount(disk.place(), UnmountMode::kPlain).ok());
  EXPECT_FALSE(disk.Close().ok());
  disk.driver().flush_error = 0;
}

TEST(Lifecycle, DirtyMappedPagesAreWrittenByUnmounting) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  {
    UniqueFd fd = Open(disk.path(), O_RDWR);
    auto* map = static_cast<char*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    absl::string_view("dirty").copy(map, 5);
    munmap(map, 4096);
  }
  ASSERT_TRUE(Unmount(disk.place(), UnmountMode::kPlain).ok());
  EXPECT_EQ(disk.driver().writes, 1);
  WaitFor([&] { return disk.disconnected(); });
}

TEST(Lifecycle, ShuttingDownAnswersEshutdownAtOnce) {
  BGFS_NEEDS_FUSE();
  for (bool in_folder : {false, true}) {
    DiskOptions options;
    options.in_folder = in_folder;
    MountedDisk disk(options);
    UniqueFd fd = Open(disk.path(), O_RDWR);
    disk.driver().stalled = true;
    int stuck_errno = -1;
    std::thread stuck([&] { stuck_errno = ErrnoOfRead(fd); });
    WaitFor([&] { return disk.driver().reads == 1; });

    disk.RequestShutdown();
    EXPECT_EQ(ErrnoOfRead(fd), ESHUTDOWN);
    EXPECT_EQ(pwrite(fd.get(), "x", 1, 0), -1);
    EXPECT_EQ(errno, ESHUTDOWN);
    EXPECT_EQ(fsync(fd.get()), -1);
    EXPECT_EQ(errno, ESHUTDOWN);
    EXPECT_EQ(ErrnoOfStat(disk.path()), ESHUTDOWN);
    EXPECT_EQ(open(disk.path().c_str(), O_RDONLY | O_CLOEXEC), -1);
    EXPECT_EQ(errno, ESHUTDOWN);

    disk.Release();
    stuck.join();
    EXPECT_EQ(stuck_errno, 0);
    EXPECT_TRUE(disk.Close().ok());
    EXPECT_EQ(ErrnoOfRead(fd), ENOTCONN);
    EXPECT_TRUE(IsDeadMount(disk.place().path));
  }
}

TEST(Lifecycle, ForcedUnmountAbortsOpenHandles) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk.path(), O_RDWR);
  ASSERT_TRUE(Unmount(disk.place(), UnmountMode::kForce).ok());
  EXPECT_EQ(ErrnoOfRead(fd), ENOTCONN);
  WaitFor([&] { return disk.disconnected(); });
  EXPECT_TRUE(disk.Close().ok());
}

// What `bgfs serve` builds: names on one connection, a disk mounted over one.
class ServedFolder {
 public:
  ServedFolder() {
    auto loop = MakeLoop("test-names");
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    auto mounted = Mount(temp_.MakeFolder(), {});
    EXPECT_TRUE(mounted.ok()) << mounted.status();
    place_ = mounted->place;
    watchdog_ = std::make_unique<Watchdog>(place_.path);
    names_ = std::make_unique<NameFolder>(
        loop_.get(), std::move(mounted->device), NameFolder::Options());
    BlockOn(*loop_, Begin());
  }
  ~ServedFolder() {
    EXPECT_TRUE(Unmount(place_, UnmountMode::kPlain).ok());
    WaitFor([this] { return ended_.load(); });
    BlockOn(*loop_, names_->Stop());
  }
  void Add(const std::string& name) { BlockOn(*loop_, AddName(name)); }
  void Remove(const std::string& name) {
    BlockOn(*loop_, names_->Remove(name));
  }
  const std::string& path() const { return place_.path; }

 private:
  Task<void> Begin() {
    names_->Start([this] { ended_ = true; });
    co_return;
  }
  Task<void> AddName(std::string name) {
    names_->Add(name);
    co_return;
  }

  TempFolder temp_;
  Place place_;
  std::unique_ptr<HostLoop> loop_;
  std::unique_ptr<NameFolder> names_;
  std::atomic<bool> ended_{false};
  std::unique_ptr<Watchdog> watchdog_;
};

std::vector<std::string> List(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = opendir(path.c_str());
  EXPECT_NE(dir, nullptr);
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(dir);
  return names;
}

TEST(NameFolder, PlaceholdersAreNeverMistakenForDisks) {
  BGFS_NEEDS_FUSE();
  ServedFolder folder;
  folder.Add("one");
  folder.Add("two");
  EXPECT_EQ(List(folder.path()), (std::vector<std::string>{"one", "two"}));
  struct stat st = {};
  ASSERT_EQ(stat((folder.path() + "/one").c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 0);
  EXPECT_EQ(st.st_mode, mode_t{S_IFREG});
  UniqueFd fd = Open(folder.path() + "/one", O_RDWR);
  EXPECT_EQ(ErrnoOfRead(fd), ENXIO);
  EXPECT_EQ(pwrite(fd.get(), "x", 1, 0), -1);
  EXPECT_EQ(errno, ENXIO);
  EXPECT_EQ(
      open((folder.path() + "/one").c_str(), O_RDWR | O_TRUNC | O_CLOEXEC), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST(NameFolder, RemovingANameDetachesItsDisk) {
  BGFS_NEEDS_FUSE();
  ServedFolder folder;
  folder.Add("one");
  folder.Add("two");
  DiskOptions options;
  options.target = folder.path() + "/one";
  MountedDisk disk(options);
  struct stat st = {};
  ASSERT_EQ(stat(options.target.c_str(), &st), 0);
  EXPECT_EQ(st.st_size, options.size);
  EXPECT_EQ(List(folder.path()), (std::vector<std::string>{"one", "two"}));
  const absl::Status busy = Unmount(folder.path(), UnmountMode::kPlain);
  EXPECT_TRUE(absl::IsFailedPrecondition(busy)) << busy;

  UniqueFd fd = Open(options.target, O_RDWR);
  folder.Remove("one");
  EXPECT_EQ(List(folder.path()), std::vector<std::string>{"two"});
  EXPECT_EQ(stat(options.target.c_str(), &st), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(ErrnoOfRead(fd), 0);
  fd.Reset();
  WaitFor([&] { return disk.disconnected(); });
}

}  // namespace
}  // namespace bgfs::fuse
