// The file driver on file systems and devices of its own, made on loop devices.
// As root only.

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/drivers/history.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

int Shell(const std::string& command) { return std::system(command.c_str()); }

// A file system on a loop device, mounted in a folder.
class HostFsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(
        Shell(absl::StrCat("truncate -s 400M ", image_, " && mkfs.", GetParam(),
                           " -q ", image_, " > /dev/null && mkdir ", mount_,
                           " && mount -o loop ", image_, " ", mount_)),
        0);
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) EXPECT_EQ(Shell("umount " + mount_), 0);
  }
  std::string Write(const std::string& name, const std::string& content) {
    std::ofstream(absl::StrCat(mount_, "/", name), std::ios::binary) << content;
    return absl::StrCat(mount_, "/", name);
  }

  TempFolder folder_;
  const std::string image_ = folder_ / "fs.img";
  const std::string mount_ = folder_ / "mnt";
  bool mounted_ = false;
};

std::string FileNode(const std::string& path, const std::string& more = "") {
  return absl::StrCat("read_only: false discard: UNMAP ", more,
                      " file { filename: \"", path, "\" }");
}

TEST_P(HostFsTest, HoldsAgainstTheModel) {
  for (const char* cache : {"", "cache { direct: true }"}) {
    ForEachSeed(3, [this, cache](uint64_t seed) {
      const std::string content(123457, 'a');
      const std::string path = Write("disk.img", content);
      auto loop = MakeLoop("test");
      ASSERT_TRUE(loop.ok());
      Graph graph(loop->get());
      History::Subject subject;
      subject.spec = ParseNode(FileNode(path, cache));
      History history(&graph, subject, content, seed);
      BlockOn(**loop, history.Run());
      if (!history.failed()) EXPECT_EQ(ReadHostFile(path), history.content());
    });
  }
}

TEST_P(HostFsTest, GivesSpaceBack) {
  TestGraph graph;
  auto disk =
      graph.Disk(FileNode(Write("disk.img", std::string(1 << 20, 'a'))));
  ASSERT_EQ(Shell("sync -f " + mount_), 0);
  const int64_t full = disk->AllocatedBytes();
  EXPECT_EQ(disk->Zero(0, 1 << 18, kMayUnmap), 0);
  EXPECT_EQ(disk->Discard(1 << 18, 1 << 18), 0);
  ASSERT_EQ(Shell("sync -f " + mount_), 0);
  EXPECT_LE(disk->AllocatedBytes(), full - (1 << 19));
  const BlockStatus status = disk->Status(0, 1 << 20);
  EXPECT_NE(status.flags & BlockStatus::kZero, 0u);
  EXPECT_EQ(status.bytes, 1 << 19);
}

// Writes one sector of the last page directly, and what follows it through the
// page cache, at the same time; each must find what it wrote.
Task<void> WriteAndCompare(Backend* backend, Range range, bool flush,
                           std::string* last, InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  for (int i = 0; i < 400; ++i) {
    std::string data(static_cast<size_t>(range.bytes), static_cast<char>(i));
    const IoStatus written =
        co_await backend->Write(range.offset, IoView(data.data(), range.bytes));
    EXPECT_TRUE(written.ok());
    if (flush && i % 8 == 0) (co_await backend->Flush()).Ignore();
    std::string now(data.size(), '?');
    const IoStatus read =
        co_await backend->Read(range.offset, IoView(now.data(), range.bytes));
    EXPECT_TRUE(read.ok());
    EXPECT_EQ(now, data) << range.offset;
    *last = std::move(data);
  }
}

Task<void> WriteSideBySide(Backend* backend, std::string* first,
                           std::string* second) {
  InFlight running;
  Spawn(WriteAndCompare(backend, {8192, 512}, false, first, running.Hold()));
  Spawn(WriteAndCompare(backend, {8704, 188}, true, second, running.Hold()));
  co_await running.WaitIdle();
}

TEST_P(HostFsTest, DirectAndBufferedPartsOfAPageDoNotMeet) {
  const std::string path = Write("disk.img", std::string(8892, 'a'));
  TestGraph graph;
  auto disk = graph.Disk(FileNode(path, "cache { direct: true }"));
  if (disk->backend().node().limits().request_alignment != 512) {
    GTEST_SKIP() << "needs a disk of 512-byte sectors";
  }
  std::string first;
  std::string second;
  disk->Do(WriteSideBySide(&disk->backend(), &first, &second));
  EXPECT_EQ(disk->Flush(), 0);
  disk.reset();
  EXPECT_EQ(ReadHostFile(path).substr(8192), first + second);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, HostFsTest,
                         ::testing::Values("ext4", "xfs", "btrfs"),
                         [](const auto& type) {
                           return std::string(type.param);
                         });

class LoopDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    content_ = std::string(1 << 20, 'a');
    const std::string image = folder_.Write("disk.img", content_);
    ASSERT_EQ(Shell(absl::StrCat("losetup -f --show ", image, " > ",
                                 folder_ / "name")),
              0);
    device_ = ReadHostFile(folder_ / "name");
    device_.pop_back();
  }
  void TearDown() override {
    if (!device_.empty()) EXPECT_EQ(Shell("losetup -d " + device_), 0);
  }

  TempFolder folder_;
  std::string content_;
  std::string device_;
};

TEST_F(LoopDeviceTest, HoldsAgainstTheModel) {
  for (const char* cache : {"", "cache { direct: true }"}) {
    ForEachSeed(3, [this, cache](uint64_t seed) {
      auto loop = MakeLoop("test");
      ASSERT_TRUE(loop.ok());
      Graph graph(loop->get());
      History::Subject subject;
      subject.spec = ParseNode(FileNode(device_, cache));
      subject.resizable = false;
      History history(&graph, subject, content_, seed);
      BlockOn(**loop, history.Run());
      content_ = history.content();
    });
  }
  EXPECT_EQ(ReadHostFile(device_), content_);
}

TEST_F(LoopDeviceTest, HasItsSizeAndGivesSpaceBack) {
  TestGraph graph;
  auto disk = graph.Disk(FileNode(device_));
  EXPECT_EQ(disk->size(), 1 << 20);
  EXPECT_EQ(disk->Truncate(1 << 19), ENOTSUP);
  EXPECT_EQ(disk->Write(1 << 20, "x"), ENOSPC);
  EXPECT_EQ(disk->Zero(0, 1 << 19, kMayUnmap), 0);
  EXPECT_EQ(disk->Flush(), 0);
  std::string data = disk->Read(0, 1 << 20);
  EXPECT_EQ(data, std::string(1 << 19, '\0') + std::string(1 << 19, 'a'));
  EXPECT_EQ(Shell(absl::StrCat("test $(stat -c %b ", folder_ / "disk.img",
                               ") -le 1100")),
            0);
}

}  // namespace
}  // namespace bgfs
