// Reading and writing a mounted export, as programs do it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "fuse/uring_transport.h"
#include "tests/fuse/mounted_disk.h"

namespace bgfs::fuse {
namespace {

constexpr int64_t kSize = 1 << 20;

UniqueFd Open(const MountedDisk& disk, int flags) {
  UniqueFd fd(open(disk.path().c_str(), flags | O_CLOEXEC));
  EXPECT_TRUE(fd.valid()) << strerror(errno);
  return fd;
}

std::string Pattern(size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

std::string ReadAt(int fd, int64_t offset, size_t bytes) {
  std::string text(bytes, '?');
  const ssize_t n = pread(fd, text.data(), bytes, offset);
  EXPECT_GE(n, 0) << strerror(errno);
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}

ssize_t WriteAt(int fd, int64_t offset, const std::string& text) {
  return pwrite(fd, text.data(), text.size(), offset);
}

TEST(FileIo, ReadsBackWhatWasWrittenAtAnyAlignment) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  const std::string text = Pattern(300'001, 1);
  EXPECT_EQ(WriteAt(fd.get(), 4097, text), ssize_t(text.size()));
  EXPECT_EQ(ReadAt(fd.get(), 4097, text.size()), text);
  EXPECT_EQ(ReadAt(fd.get(), 4095, 4),
            std::string(2, '\0') + text.substr(0, 2));
  EXPECT_EQ(ReadAt(fd.get(), kSize - 10, 100), std::string(10, '\0'));
  EXPECT_EQ(ReadAt(fd.get(), kSize, 100), "");
  EXPECT_EQ(ReadAt(fd.get(), kSize * 10, 100), "");
}

TEST(FileIo, FixedSizeIsLikeABlockDevice) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  EXPECT_EQ(WriteAt(fd.get(), kSize - 3, "abcdef"), 3);
  EXPECT_EQ(ReadAt(fd.get(), kSize - 3, 9), "abc");
  EXPECT_EQ(WriteAt(fd.get(), kSize, "x"), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(WriteAt(fd.get(), kSize + 7, "x"), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(pwrite(fd.get(), "", 0, kSize), 0);
}

TEST(FileIo, GrowsByWritingWhereResizable) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.resizable = true;
  options.size = 1000;
  MountedDisk disk(options);
  UniqueFd fd = Open(disk, O_RDWR | O_APPEND);
  EXPECT_EQ(write(fd.get(), "end", 3), 3);
  struct stat st = {};
  ASSERT_EQ(fstat(fd.get(), &st), 0);
  EXPECT_EQ(st.st_size, 1003);
  UniqueFd other = Open(disk, O_RDWR);
  EXPECT_EQ(WriteAt(other.get(), 5000, "gap"), 3);
  EXPECT_EQ(ReadAt(other.get(), 1000, 10000),
            "end" + std::string(3997, '\0') + "gap");
}

TEST(FileIo, ErrorsReachTheWriterAsTheyAre) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  for (int error : {ENOSPC, EIO, EDQUOT}) {
    disk.driver().write_error = error;
    EXPECT_EQ(WriteAt(fd.get(), 0, "x"), -1);
    EXPECT_EQ(errno, error);
  }
  disk.driver().write_error = 0;
  EXPECT_EQ(WriteAt(fd.get(), 0, "x"), 1);
  disk.driver().flush_error = EIO;
  EXPECT_EQ(fsync(fd.get()), -1);
  EXPECT_EQ(errno, EIO);
  disk.driver().flush_error = 0;
  const int before = disk.driver().flushes;
  EXPECT_EQ(WriteAt(fd.get(), 0, "y"), 1);
  EXPECT_EQ(fdatasync(fd.get()), 0);
  EXPECT_GT(disk.driver().flushes, before);
}

// The kernel leaves O_SYNC, O_DSYNC and RWF_DSYNC to the answer of the write.
TEST(FileIo, SynchronousWritesAreDurableWhenTheyReturn) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.resizable = true;
  MountedDisk disk(options);
  TestDriver& driver = disk.driver();
  UniqueFd plain = Open(disk, O_RDWR);
  const int at_first = driver.flushes;
  EXPECT_EQ(WriteAt(plain.get(), 0, "x"), 1);
  EXPECT_EQ(driver.flushes, at_first);
  for (const int flag : {O_DSYNC, O_SYNC, O_DSYNC | O_DIRECT}) {
    UniqueFd fd = Open(disk, O_RDWR | flag);
    const int before = driver.flushes;
    EXPECT_EQ(WriteAt(fd.get(), 4096, "x"), 1);
    EXPECT_EQ(driver.flushes, before + 1) << flag;
  }
  const int before = driver.flushes;
  char byte = 'y';
  const iovec piece{&byte, 1};
  EXPECT_EQ(pwritev2(plain.get(), &piece, 1, 0, RWF_DSYNC), 1);
  EXPECT_EQ(driver.flushes, before + 1);

  driver.flush_error = EIO;
  UniqueFd fd = Open(disk, O_RDWR | O_DSYNC);
  EXPECT_EQ(WriteAt(fd.get(), 0, "x"), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(WriteAt(fd.get(), kSize, "x"), -1);
  EXPECT_EQ(errno, EIO);
  driver.flush_error = 0;
}

TEST(FileIo, MapsShared) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.size = kSize - 100;
  MountedDisk disk(options);
  UniqueFd fd = Open(disk, O_RDWR);
  EXPECT_EQ(WriteAt(fd.get(), 4096, "before"), 6);
  auto* map = static_cast<char*>(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  ASSERT_NE(map, MAP_FAILED) << strerror(errno);
  EXPECT_EQ(std::string(map + 4096, 6), "before");
  absl::string_view("mapped").copy(map + 8192, 6);
  absl::string_view("tai").copy(map + kSize - 103, 3);
  EXPECT_EQ(msync(map, kSize, MS_SYNC), 0);
  EXPECT_EQ(ReadAt(fd.get(), 8192, 6), "mapped");
  EXPECT_EQ(ReadAt(fd.get(), kSize - 103, 10), "tai");
  EXPECT_EQ(WriteAt(fd.get(), 4096, "after!"), 6);
  EXPECT_EQ(std::string(map + 4096, 6), "after!");
  munmap(map, kSize);
}

TEST(FileIo, MapsPrivatelyOnOlderKernels) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.fuse.kernel_mask.init_flags =
      kInitDirectIoAllowMmap | FUSE_MAX_PAGES | FUSE_ASYNC_DIO;
  options.fuse.kernel_mask.max_minor = 36;
  MountedDisk disk(options);
  UniqueFd fd = Open(disk, O_RDWR);
  const std::string text = Pattern(700'000, 2);
  EXPECT_EQ(WriteAt(fd.get(), 1, text), ssize_t(text.size()));
  EXPECT_EQ(ReadAt(fd.get(), 1, text.size()), text);
  EXPECT_EQ(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0),
      MAP_FAILED);
  void* map =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get(), 0);
  ASSERT_NE(map, MAP_FAILED) << strerror(errno);
  EXPECT_EQ(std::memcmp(static_cast<char*>(map) + 1, text.data(), 4000), 0);
  munmap(map, 4096);
}

TEST(FileIo, ReadOnlyRefusesWritersAndIsCached) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.writable = false;
  MountedDisk disk(options);
  EXPECT_EQ(open(disk.path().c_str(), O_RDWR | O_CLOEXEC), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(truncate(disk.path().c_str(), 0), -1);
  EXPECT_EQ(errno, EROFS);
  for (int i = 0; i < 3; ++i) {
    UniqueFd fd = Open(disk, O_RDONLY);
    EXPECT_EQ(ReadAt(fd.get(), 0, 4096), std::string(4096, '\0'));
  }
  const int reads = disk.driver().reads;
  UniqueFd fd = Open(disk, O_RDONLY);
  EXPECT_EQ(ReadAt(fd.get(), 0, 4096), std::string(4096, '\0'));
  EXPECT_EQ(disk.driver().reads, reads);
}

// Writers of blocks of their own, at random, all at once; every block then
// holds what its writer wrote last.
TEST(FileIo, ParallelDirectWritesLoseNothing) {
  BGFS_NEEDS_FUSE();
  constexpr int kThreads = 8;
  constexpr int kBlocks = kSize / 4096;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  MountedDisk disk({});
  std::vector<uint32_t> last(kBlocks, 0);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      UniqueFd fd = Open(disk, O_RDWR | O_DIRECT);
      std::mt19937 random(seed + static_cast<unsigned>(t));
      alignas(4096) static thread_local uint32_t block[1024];
      for (uint32_t round = 1; round <= 300; ++round) {
        const int mine =
            static_cast<int>(random() % (kBlocks / kThreads)) * kThreads + t;
        std::fill(std::begin(block), std::end(block),
                  round * kThreads + static_cast<uint32_t>(t));
        ASSERT_EQ(pwrite(fd.get(), block, 4096, int64_t{mine} * 4096), 4096);
        last.at(mine) = block[0];
        std::fill(std::begin(block), std::end(block), 0);
        ASSERT_EQ(pread(fd.get(), block, 4096, int64_t{mine} * 4096), 4096);
        ASSERT_EQ(block[0], last.at(mine));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  UniqueFd fd = Open(disk, O_RDONLY);
  for (int b = 0; b < kBlocks; ++b) {
    uint32_t words[1024];
    ASSERT_EQ(pread(fd.get(), words, 4096, int64_t{b} * 4096), 4096);
    for (uint32_t word : words) ASSERT_EQ(word, last.at(b)) << b;
  }
}

// All asynchronous requests that the kernel lets through are stuck in the disk;
// what needs no disk still comes through, and they all end well.
TEST(FileIo, ParkedRequestsStarveNobody) {
  BGFS_NEEDS_FUSE();
  const int parked = TestsUring() ? UringTransport::kMaxBackground : 512;
  MountedDisk disk({});
  EXPECT_EQ(disk.transport(), TestsUring() ? "io_uring" : "/dev/fuse");
  UniqueFd fd = Open(disk, O_RDWR | O_DIRECT);
  disk.driver().stalled = true;
  aio_context_t context = 0;
  ASSERT_EQ(syscall(SYS_io_setup, parked, &context), 0);
  const std::unique_ptr<char, void (*)(void*)> memory(
      static_cast<char*>(
          aligned_alloc(4096, static_cast<size_t>(parked) * 4096)),
      free);
  std::vector<iocb> blocks(static_cast<size_t>(parked));
  for (int64_t i = 0; i < parked; ++i) {
    iocb* block = &blocks.at(i);
    *block = {};
    block->aio_lio_opcode = IOCB_CMD_PREAD;
    block->aio_fildes = static_cast<uint32_t>(fd.get());
    block->aio_buf = reinterpret_cast<uint64_t>(memory.get() + i * 4096);
    block->aio_nbytes = 4096;
    block->aio_offset = (i % 256) * 4096;
    ASSERT_EQ(syscall(SYS_io_submit, context, 1, &block), 1);
  }
  struct statx st = {};
  EXPECT_EQ(statx(AT_FDCWD, disk.path().c_str(), AT_STATX_FORCE_SYNC,
                  STATX_BASIC_STATS, &st),
            0);
  UniqueFd another = Open(disk, O_RDONLY);
  disk.Release();
  std::vector<io_event> events(static_cast<size_t>(parked));
  ASSERT_EQ(syscall(SYS_io_getevents, context, parked, parked, events.data(),
                    nullptr),
            parked);
  for (const io_event& event : events) EXPECT_EQ(event.res, 4096);
  syscall(SYS_io_destroy, context);
}

TEST(FileIo, CopiesWithinTheFile) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  const std::string text = Pattern(400'000, 3);
  ASSERT_EQ(WriteAt(fd.get(), 10, text), ssize_t(text.size()));
  off_t from = 10;
  off_t to = 500'001;
  EXPECT_EQ(copy_file_range(fd.get(), &from, fd.get(), &to, text.size(), 0),
            ssize_t(text.size()));
  EXPECT_EQ(ReadAt(fd.get(), 500'001, text.size()), text);
  from = 0;
  to = 100;
  EXPECT_EQ(copy_file_range(fd.get(), &from, fd.get(), &to, 1000, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  from = 0;
  to = kSize - 100;
  EXPECT_EQ(copy_file_range(fd.get(), &from, fd.get(), &to, 1000, 0), 100);
  from = 0;
  to = kSize;
  EXPECT_EQ(copy_file_range(fd.get(), &from, fd.get(), &to, 1000, 0), -1);
  EXPECT_EQ(errno, ENOSPC);
  from = kSize;
  to = 0;
  EXPECT_EQ(copy_file_range(fd.get(), &from, fd.get(), &to, 1000, 0), 0);
}

}  // namespace
}  // namespace bgfs::fuse
