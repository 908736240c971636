#include "fuse/mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fuse/abi.h"
#include "fuse/holders.h"
#include "tests/fuse/temp_folder.h"

namespace bgfs::fuse {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Answers INIT, and ENOSYS to everything else: a daemon that is alive.
class Responder {
 public:
  explicit Responder(int fd) : fd_(fd), thread_([this] { Serve(); }) {}
  ~Responder() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Serve() {
    alignas(8) char buffer[256 * 1024];
    while (!stop_) {
      pollfd p = {fd_, POLLIN, 0};
      poll(&p, 1, 10);
      const ssize_t n = read(fd_, buffer, sizeof(buffer));
      if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOENT) return;
      if (n < static_cast<ssize_t>(sizeof(fuse_in_header))) continue;
      const auto* in = reinterpret_cast<fuse_in_header*>(buffer);
      struct {
        fuse_out_header header;
        fuse_init_out init;
      } out = {};
      out.header.unique = in->unique;
      out.header.error = in->opcode == FUSE_INIT ? 0 : -ENOSYS;
      out.header.len =
          in->opcode == FUSE_INIT ? sizeof(out) : sizeof(out.header);
      out.init.major = 7;
      out.init.minor = 31;
      out.init.max_write = 4096;
      if (in->opcode == FUSE_FORGET || in->opcode == FUSE_INTERRUPT) continue;
      EXPECT_EQ(write(fd_, &out, out.header.len), ssize_t(out.header.len));
    }
  }

  const int fd_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(MountInfo, ParsesEscapesAndOptionalFields) {
  const auto entries = ParseMountInfo(
      "36 35 98:0 / /mnt\\040x rw,noatime master:1 shared:2 - fuse.bgfs "
      "a\\054b "
      "rw,user_id=1000,group_id=7\nnonsense\n37 36 0:48 /sub / ro - ext4 "
      "/dev/root rw\n38 1 0:1 / /x "
      "rw master:1\n");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].id, 36u);
  EXPECT_EQ(entries[0].parent_id, 35u);
  EXPECT_EQ(entries[0].device, makedev(98, 0));
  EXPECT_EQ(entries[0].mount_point, "/mnt x");
  EXPECT_EQ(entries[0].type, "fuse.bgfs");
  EXPECT_EQ(entries[0].source, "a,b");
  EXPECT_EQ(entries[0].user, 1000u);
  EXPECT_EQ(entries[1].user, 0u);
  EXPECT_EQ(entries[1].root, "/sub");
  EXPECT_EQ(entries[1].options, "ro");
}

TEST(Mount, RefusesBadTargetsInOneLine) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  const absl::Status missing = Mount(temp.path() + "/none", {}).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(missing.message(), HasSubstr("does not exist"));

  temp.MakeFile();
  const absl::Status full = Mount(temp.path(), {}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(full)) << full;
  EXPECT_THAT(full.message(), HasSubstr("not empty"));

  const absl::Status device = Mount("/dev/null", {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(device)) << device;
}

TEST(Mount, MountsAtFolderAndFileWithOptions) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  MountOptions options;
  options.fsname = "a,b\\c";
  options.read_only = true;
  for (const std::string& path : {temp.MakeFolder(), temp.MakeFile()}) {
    absl::StatusOr<Mounted> mounted = Mount(path, options);
    ASSERT_TRUE(mounted.ok()) << mounted.status();
    EXPECT_EQ(mounted->place.path, path);
    EXPECT_TRUE(mounted->place.is_mount_root);
    EXPECT_TRUE(fcntl(mounted->device.get(), F_GETFL) & O_NONBLOCK);
    EXPECT_TRUE(fcntl(mounted->device.get(), F_GETFD) & FD_CLOEXEC);
    absl::StatusOr<MountEntry> entry = FindMount(mounted->place.mount_id);
    ASSERT_TRUE(entry.ok()) << entry.status();
    EXPECT_EQ(entry->type, kMountType);
    EXPECT_EQ(entry->source, options.fsname);
    EXPECT_THAT(entry->options, HasSubstr("ro"));
    EXPECT_TRUE(Unmount(mounted->place, UnmountMode::kPlain).ok());
    EXPECT_TRUE(absl::IsNotFound(Unmount(mounted->place, UnmountMode::kPlain)));
    EXPECT_TRUE(absl::IsNotFound(Unmount(path, UnmountMode::kPlain)));
  }
}

TEST(Mount, WaitsForNoDaemonThatHangs) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  const std::string path = temp.MakeFolder();
  absl::StatusOr<Mounted> mounted = Mount(path, {});  // nobody answers
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  EXPECT_FALSE(IsDeadMount(path));
  mounted->device.Close();
  EXPECT_TRUE(IsDeadMount(path));
  EXPECT_TRUE(Unmount(path, UnmountMode::kLazy).ok());
}

TEST(Mount, DetachesDeadMountsAndRefusesLiveOnes) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  for (const std::string& path : {temp.MakeFolder(), temp.MakeFile()}) {
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(Mount(path, {}).ok());  // dies at once
      EXPECT_TRUE(IsDeadMount(path));
    }
    absl::StatusOr<Mounted> mounted = Mount(path, {});
    ASSERT_TRUE(mounted.ok()) << mounted.status();
    {
      Responder alive(mounted->device.get());
      EXPECT_FALSE(IsDeadMount(path));
      const absl::Status again = Mount(path, {}).status();
      EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
      EXPECT_THAT(again.message(), HasSubstr("in use"));
    }
    EXPECT_TRUE(Unmount(path, UnmountMode::kPlain).ok());
    EXPECT_FALSE(Locate(path)->is_mount_root);
  }
}

TEST(Device, IsConnectedUntilTheLastMountIsGone) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  const std::string path = temp.MakeFolder();
  absl::StatusOr<Mounted> mounted = Mount(path, {});
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  const Device other = mounted->device;
  EXPECT_TRUE(other.IsConnected());
  {
    UniqueFd holder(open(path.c_str(), O_PATH | O_CLOEXEC));
    EXPECT_TRUE(Unmount(path, UnmountMode::kLazy).ok());
    EXPECT_TRUE(other.IsConnected());
  }
  // Nobody has read from the device: the kernel's word alone counts.
  EXPECT_FALSE(other.IsConnected());
}

TEST(Device, IsNotConnectedOnceItIsClosed) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  absl::StatusOr<Mounted> mounted = Mount(temp.MakeFolder(), {});
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  const Device other = mounted->device;
  mounted->device.Close();
  EXPECT_FALSE(other.IsConnected());
  EXPECT_FALSE(Device().IsConnected());
  EXPECT_TRUE(Unmount(mounted->place, UnmountMode::kLazy).ok());
}

TEST(Unmount, NamesWhoHoldsTheMount) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  const std::string path = temp.MakeFolder();
  absl::StatusOr<Mounted> mounted = Mount(path, {});
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  {
    UniqueFd holder(open(path.c_str(), O_PATH | O_CLOEXEC));
    ASSERT_TRUE(holder.valid());
    const absl::Status busy = Unmount(path, UnmountMode::kPlain);
    EXPECT_TRUE(absl::IsFailedPrecondition(busy)) << busy;
    EXPECT_THAT(busy.message(),
                AllOf(HasSubstr(absl::StrCat("pid ", getpid(), ", open file")),
                      HasSubstr(path)));
    EXPECT_TRUE(Unmount(path, UnmountMode::kLazy).ok());
  }
  EXPECT_FALSE(Locate(path)->is_mount_root);
}

TEST(Holders, WaitsForNoProcessThatIsStuck) {
  BGFS_NEEDS_FUSE();
  TempFolder temp;
  absl::StatusOr<Mounted> mounted = Mount(temp.MakeFolder(), {});
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  // A process whose maps cannot be read: who opens it waits for a writer.
  const std::string process = temp.path() + "/proc/12";
  std::filesystem::create_directories(process);
  ASSERT_EQ(mkfifo((process + "/maps").c_str(), 0600), 0);
  HolderSearch search;
  search.limit = std::chrono::milliseconds(50);
  search.proc = temp.path() + "/proc";
  const absl::StatusOr<MountEntry> entry = FindMount(mounted->place.mount_id);
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_THAT(FindHolders(*entry, search), IsEmpty());
  // Its end, when the writer comes.
  const UniqueFd writer(open((process + "/maps").c_str(), O_WRONLY));
  EXPECT_TRUE(writer.valid());
  EXPECT_TRUE(Unmount(mounted->place, UnmountMode::kPlain).ok());
}

TEST(Holders, DescribesAtMostAFew) {
  EXPECT_EQ(DescribeHolders({}), "");
  EXPECT_EQ(DescribeHolders(
                {{12, "fio", "open file"}, {0, "/dev/loop3", "loop device"}}),
            "fio (pid 12, open file), /dev/loop3 (loop device)");
  EXPECT_THAT(DescribeHolders(std::vector<Holder>(10, {1, "a", "b"})),
              HasSubstr(" and 2 more"));
}

}  // namespace
}  // namespace bgfs::fuse
