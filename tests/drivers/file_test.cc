// The file driver on the kernel's files: space, sizes, direct I/O, errors.

#include "drivers/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string FileNode(const std::string& path, const std::string& more = "") {
  return absl::StrCat("read_only: false discard: UNMAP ", more,
                      " file { filename: \"", path, "\" }");
}

TEST(FileDriverTest, GivesSpaceBack) {
  TempFolder folder;
  TestGraph graph;
  auto disk =
      graph.Disk(FileNode(folder.Write("disk.img", std::string(400000, 'a'))));
  EXPECT_EQ(disk->Flush(), 0);
  const int64_t full = disk->AllocatedBytes();
  EXPECT_GE(full, 400000);
  EXPECT_EQ(disk->Zero(0, 102400), 0);
  EXPECT_EQ(disk->AllocatedBytes(), full);
  EXPECT_EQ(disk->Zero(0, 102400, kMayUnmap), 0);
  EXPECT_EQ(disk->AllocatedBytes(), full - 102400);
  EXPECT_EQ(disk->Discard(102400, 102400), 0);
  EXPECT_EQ(disk->AllocatedBytes(), full - 204800);
  EXPECT_EQ(disk->Read(0, 204801), std::string(204800, '\0') + "a");
  EXPECT_EQ(disk->Reserve(0, 204800), 0);
  EXPECT_EQ(disk->AllocatedBytes(), full);
  EXPECT_EQ(disk->size(), 400000);
}

TEST(FileDriverTest, DirectFilesAreNotForTheKernel) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(4096, 'a'));
  TestGraph graph;
  const auto direct = graph.Open(FileNode(path, "cache { direct: true }"));
  ASSERT_TRUE(direct.ok()) << direct.status();
  EXPECT_EQ((*direct)->driver().host_bytes(), nullptr);
}

// The kernel may have the file open, and write it, after all users here are
// gone: then it has our locks with it.
TEST(FileDriverTest, WhatIsWrittenPastUsStaysLockedUntilTheFileIsClosed) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(4096, 'a'));
  TestGraph other;
  int kernels = -1;
  {
    TestGraph graph;
    {
      auto disk = graph.Disk(FileNode(path));
      Backend& backend = disk->backend();
      kernels = dup(backend.node().driver().host_bytes()->descriptor());
      backend.LetBypass();
    }
    EXPECT_TRUE(graph.Close().ok());
  }
  const auto node = other.Open(FileNode(path));
  ASSERT_TRUE(node.ok()) << node.status();
  const auto attach = [&] {
    return other.Attach(*node, kReadWrite, kConsistentRead).status();
  };
  EXPECT_TRUE(absl::IsUnavailable(attach()));
  close(kernels);
  EXPECT_TRUE(attach().ok());
}

TEST(FileDriverTest, StatusTellsHolesFromData) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", "");
  ASSERT_EQ(truncate(path.c_str(), 1000001), 0);
  TestGraph graph;
  auto disk = graph.Disk(FileNode(path));
  EXPECT_EQ(disk->Write(409600, std::string(8192, 'a')), 0);
  BlockStatus status = disk->Status(100, 1000000);
  EXPECT_EQ(status.flags,
            BlockStatus::kZero | BlockStatus::kAllocated | BlockStatus::kRaw);
  EXPECT_EQ(status.bytes, 409500);
  EXPECT_EQ(status.file, &disk->backend().node());
  EXPECT_EQ(status.file_offset, 100);
  status = disk->Status(409600, 1000000);
  EXPECT_EQ(status.flags,
            BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw);
  EXPECT_EQ(status.bytes, 8192);
  status = disk->Status(417792, 582209);
  EXPECT_EQ(status.flags, BlockStatus::kZero | BlockStatus::kAllocated |
                              BlockStatus::kRaw | BlockStatus::kEof);
  EXPECT_EQ(status.bytes, 582209);
}

TEST(FileDriverTest, PreallocatesAsAsked) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(10, 'a'));
  TestGraph graph;
  auto disk = graph.Disk(FileNode(path));
  EXPECT_EQ(disk->Truncate(1000000, Preallocation::kMetadata), ENOTSUP);
  EXPECT_EQ(disk->size(), 10);
  EXPECT_EQ(disk->Truncate(1000000), 0);
  EXPECT_LT(disk->AllocatedBytes(), 10000);
  EXPECT_EQ(disk->Truncate(2000000, Preallocation::kFalloc), 0);
  EXPECT_GE(disk->AllocatedBytes(), 1000000);
  EXPECT_EQ(disk->Truncate(3000001, Preallocation::kFull), 0);
  EXPECT_EQ(disk->Flush(), 0);
  EXPECT_GE(disk->AllocatedBytes(), 2000000);
  EXPECT_EQ(disk->Truncate(5, Preallocation::kFull), EINVAL);
  EXPECT_EQ(disk->Truncate(5), 0);
  disk.reset();
  EXPECT_EQ(ReadHostFile(path), "aaaaa");
}

TEST(FileDriverTest, WhatTheFileLostReadsAsZeros) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(10000, 'a'));
  for (const char* cache : {"", "cache { direct: true }"}) {
    ASSERT_EQ(truncate(path.c_str(), 10000), 0);
    TestGraph graph;
    auto disk = graph.Disk(FileNode(path, cache));
    ASSERT_EQ(truncate(path.c_str(), 5), 0);
    EXPECT_EQ(disk->Read(3, 9000).substr(2), std::string(8998, '\0'));
  }
}

// The file system shares the blocks, or copies them itself.
TEST(FileDriverTest, CopiesInsideTheHost) {
  TempFolder folder;
  std::string content;
  for (int i = 0; i < 300000; ++i) content += static_cast<char>(i * 7 % 251);
  const std::string from = folder.Write("from", content);
  const std::string to = folder.Write("to", std::string(300000, 'o'));
  for (const char* cache : {"", "cache { direct: true } "}) {
    TestGraph graph;
    auto source = graph.Disk(absl::StrCat("read_only: false ", cache,
                                          "file { filename: \"", from, "\" }"));
    auto target = graph.Disk(absl::StrCat("read_only: false ", cache,
                                          "file { filename: \"", to, "\" }"));
    EXPECT_EQ(target->Write(0, std::string(300000, 'o')), 0);
    // Not the fallback.
    const IoStatus offloaded = source->Do(source->backend().root().CopyRange(
        nullptr, 1000, 200000, {&target->backend().root(), 5, 0}));
    EXPECT_EQ(offloaded.error(), *cache == 0 ? 0 : ENOTSUP);
    EXPECT_EQ(source
                  ->Do(source->backend().CopyRange(1000, target->backend(), 5,
                                                   200000))
                  .error(),
              0);
    EXPECT_EQ(target->Read(0, 300000), std::string(5, 'o') +
                                           content.substr(1000, 200000) +
                                           std::string(99995, 'o'));
  }
}

TEST(FileDriverTest, DirectKeepsTheExactSize) {
  TempFolder folder;
  const std::string path =
      folder.Write("disk.img", std::string(8192 + 700, 'a'));
  TestGraph graph;
  auto disk = graph.Disk(FileNode(path, "cache { direct: true }"));
  EXPECT_GE(disk->backend().node().limits().request_alignment, 512);
  EXPECT_EQ(disk->size(), 8892);
  EXPECT_EQ(disk->Write(8890, "bb"), 0);
  EXPECT_EQ(disk->Write(1, "c"), 0);
  EXPECT_EQ(disk->Write(8892, "tail"), 0);
  EXPECT_EQ(disk->size(), 8896);
  EXPECT_EQ(disk->Write(20000, std::string(999, 'd')), 0);
  EXPECT_EQ(disk->Flush(), 0);
  disk.reset();
  const std::string now = ReadHostFile(path);
  EXPECT_EQ(now, "ac" + std::string(8888, 'a') + "bbtail" +
                     std::string(20000 - 8896, '\0') + std::string(999, 'd'));
}

TEST(FileDriverTest, FallsBackWhereTheFileSystemHasNoZeroRange) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm";
  TempFolder folder("/dev/shm");
  TestGraph graph;
  auto disk =
      graph.Disk(FileNode(folder.Write("disk.img", std::string(100000, 'a'))));
  const int64_t full = disk->AllocatedBytes();
  EXPECT_EQ(disk->Zero(0, 99999), 0);
  EXPECT_EQ(disk->Zero(0, 99999), 0);
  EXPECT_EQ(disk->Read(0, 100000), std::string(99999, '\0') + "a");
  EXPECT_EQ(disk->AllocatedBytes(), full);
  EXPECT_EQ(disk->Zero(0, 65536, kMayUnmap), 0);
  EXPECT_EQ(disk->AllocatedBytes(), full - 65536);
}

TEST(FileDriverTest, RefusesSizesThatCannotBeRoundedUp) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm";
  TempFolder folder("/dev/shm");
  const std::string path = folder.Write("disk.img", "");
  TestGraph graph;
  ASSERT_EQ(truncate(path.c_str(), Range::kToInfinity), 0);
  EXPECT_THAT(graph.Open(FileNode(path)).status().message(),
              HasSubstr("9223372036854775807 bytes; an image has at most "
                        "9223372035781033984"));
  ASSERT_EQ(truncate(path.c_str(), kMaxNodeBytes), 0);
  auto disk = graph.Disk(FileNode(path));
  EXPECT_EQ(disk->Write(kMaxNodeBytes - 1, "a"), 0);
  EXPECT_EQ(disk->Write(kMaxNodeBytes, "b"), EFBIG);
  EXPECT_EQ(disk->Read(kMaxNodeBytes - 2, 2), std::string("\0a", 2));
}

TEST(FileDriverTest, SaysWhatCannotBeOpenedAndWhatToDo) {
  TempFolder folder;
  TestGraph graph;
  EXPECT_THAT(
      graph.Open(FileNode(folder / "none\\n")).status().message(),
      AllOf(HasSubstr("cannot open \""), HasSubstr("none\\n\""),
            HasSubstr("for writing: No such file or directory; check")));
  EXPECT_THAT(graph.Open(FileNode(folder.path())).status().message(),
              AllOf(HasSubstr("Is a directory"), HasSubstr("regular file")));
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(graph.Open(FileNode(folder / "fifo")).status().message(),
              HasSubstr("an image is a regular file or a block device"));
  EXPECT_THAT(FileDriver::CannotOpen("x", true, IoError(EACCES)).message(),
              "cannot open \"x\" for writing: Permission denied; change its "
              "permissions, or open it read-only");
  EXPECT_THAT(FileDriver::CannotOpen("x", true, IoError(EROFS)).message(),
              HasSubstr("; open it read-only"));
  EXPECT_THAT(FileDriver::CannotOpen("x", false, IoError(EMFILE)).message(),
              HasSubstr("ulimit -n"));
  EXPECT_TRUE(graph.graph().nodes().empty());
}

}  // namespace
}  // namespace bgfs
