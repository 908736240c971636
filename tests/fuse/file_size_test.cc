// Size, space and attributes of a mounted export.

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tests/fuse/mounted_disk.h"

namespace bgfs::fuse {
namespace {

constexpr int64_t kSize = 1 << 20;

UniqueFd Open(const MountedDisk& disk, int flags) {
  UniqueFd fd(open(disk.path().c_str(), flags | O_CLOEXEC));
  EXPECT_TRUE(fd.valid()) << strerror(errno);
  return fd;
}

struct stat Stat(const MountedDisk& disk) {
  struct stat st = {};
  EXPECT_EQ(stat(disk.path().c_str(), &st), 0) << strerror(errno);
  return st;
}

std::string Fill(UniqueFd& fd, int64_t offset, size_t bytes) {
  const std::string text(bytes, 'x');
  EXPECT_EQ(pwrite(fd.get(), text.data(), bytes, offset), ssize_t(bytes));
  return text;
}

TEST(FileSize, FixedSizeRefusesTruncate) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  for (int64_t size : {int64_t{0}, kSize - 1, kSize + 1}) {
    EXPECT_EQ(ftruncate(fd.get(), size), -1);
    EXPECT_EQ(errno, EPERM);
  }
  EXPECT_EQ(ftruncate(fd.get(), kSize), 0);
  EXPECT_EQ(open(disk.path().c_str(), O_RDWR | O_TRUNC | O_CLOEXEC), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(Stat(disk).st_size, kSize);
}

TEST(FileSize, ResizableTakesAnySize) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.resizable = true;
  MountedDisk disk(options);
  UniqueFd fd = Open(disk, O_RDWR);
  Fill(fd, 0, 10'000);
  EXPECT_EQ(ftruncate(fd.get(), 777), 0);
  EXPECT_EQ(Stat(disk).st_size, 777);
  EXPECT_EQ(ftruncate(fd.get(), 5001), 0);
  EXPECT_EQ(Stat(disk).st_size, 5001);
  char tail[10000];
  EXPECT_EQ(pread(fd.get(), tail, sizeof(tail), 777), 5001 - 777);
  for (int i = 0; i < 5001 - 777; ++i) ASSERT_EQ(tail[i], 0);
  UniqueFd emptied = Open(disk, O_RDWR | O_TRUNC);
  EXPECT_EQ(Stat(disk).st_size, 0);
  EXPECT_EQ(pread(fd.get(), tail, 1, 0), 0);
}

TEST(FileSize, ChangesFromInsideAreSeen) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.resizable = true;
  MountedDisk disk(options);
  EXPECT_EQ(Stat(disk).st_size, kSize);
  for (int64_t size : {3 * kSize + 5, kSize / 2}) {
    ASSERT_TRUE(disk.TruncateInside(size).ok());
    // The notification is on its way to the kernel by now.
    for (int tries = 0; Stat(disk).st_size != size; ++tries) {
      ASSERT_LT(tries, 10'000);
      usleep(1000);
    }
  }
}

TEST(FileSize, StatTellsTheTruth) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.fuse.mode = 0640;
  options.fuse.uid = 12;
  options.fuse.gid = 34;
  options.size = kSize - 5;
  MountedDisk disk(options);
  struct stat st = Stat(disk);
  EXPECT_EQ(st.st_size, kSize - 5);
  EXPECT_EQ(st.st_blocks, 0);
  EXPECT_GE(st.st_blksize, 4096);
  EXPECT_EQ(st.st_mode, mode_t{S_IFREG | 0640});
  EXPECT_EQ(st.st_uid, 12u);
  EXPECT_EQ(st.st_gid, 34u);
  EXPECT_EQ(st.st_nlink, 1u);
  UniqueFd fd = Open(disk, O_RDWR);
  Fill(fd, 4096, 4097);
  EXPECT_EQ(Stat(disk).st_blocks, 16);
  Fill(fd, 0, kSize - 5);
  EXPECT_EQ(Stat(disk).st_blocks, kSize / 512);
  // Data, and a host that accounts nothing for it: never a hole.
  disk.driver().hide_allocation = true;
  Fill(fd, 0, 1);
  EXPECT_GT(Stat(disk).st_blocks, 0);
}

TEST(FileSize, AttributesCanBeChanged) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  const char* path = disk.path().c_str();
  EXPECT_EQ(chmod(path, 0604), 0);
  EXPECT_EQ(chown(path, 5, 6), 0);
  const timespec times[2] = {{1000, 1}, {2000, 2}};
  EXPECT_EQ(utimensat(AT_FDCWD, path, times, 0), 0);
  struct stat st = Stat(disk);
  EXPECT_EQ(st.st_mode, mode_t{S_IFREG | 0604});
  EXPECT_EQ(st.st_uid, 5u);
  EXPECT_EQ(st.st_gid, 6u);
  EXPECT_EQ(st.st_atim.tv_sec, 1000);
  EXPECT_EQ(st.st_mtim.tv_sec, 2000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 2);
  UniqueFd fd = Open(disk, O_RDWR);
  Fill(fd, 0, 1);
  EXPECT_GT(Stat(disk).st_mtim.tv_sec, 2000);
}

TEST(FileSpace, PunchesAndZeroes) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  Fill(fd, 0, 65536);
  EXPECT_EQ(fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100,
                      20000),
            0);
  EXPECT_EQ(Stat(disk).st_blocks, (65536 - 3 * 4096) / 512);
  EXPECT_EQ(fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 30000, 10000), 0);
  EXPECT_EQ(fallocate(fd.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                      60000, 10 * kSize),
            0);
  std::string text(65536, '?');
  ASSERT_EQ(pread(fd.get(), text.data(), text.size(), 0), 65536);
  for (int i = 0; i < 65536; ++i) {
    const bool zero =
        (i >= 100 && i < 20100) || (i >= 30000 && i < 40000) || i >= 60000;
    ASSERT_EQ(text.at(i), zero ? '\0' : 'x') << i;
  }
  EXPECT_EQ(Stat(disk).st_size, kSize);
  EXPECT_EQ(fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, kSize - 1, 2), -1);
  EXPECT_EQ(errno, ENOSPC);
}

TEST(FileSpace, ReservesWithoutChangingBytes) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.resizable = true;
  MountedDisk disk(options);
  UniqueFd fd = Open(disk, O_RDWR);
  const std::string text = Fill(fd, 10, 100);
  EXPECT_EQ(fallocate(fd.get(), 0, 0, 8192), 0);
  EXPECT_EQ(Stat(disk).st_blocks, 16);
  EXPECT_EQ(fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, kSize - 4096, 10 * kSize),
            0);
  EXPECT_EQ(Stat(disk).st_size, kSize);
  EXPECT_EQ(Stat(disk).st_blocks, 24);
  EXPECT_EQ(fallocate(fd.get(), 0, kSize, 4095), 0);
  EXPECT_EQ(Stat(disk).st_size, kSize + 4095);
  std::string back(100, '?');
  EXPECT_EQ(pread(fd.get(), back.data(), 100, 10), 100);
  EXPECT_EQ(back, text);
  disk.driver().can_reserve = false;
  EXPECT_EQ(fallocate(fd.get(), 0, 0, 8192), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST(FileSpace, SeeksDataAndHoles) {
  BGFS_NEEDS_FUSE();
  MountedDisk disk({});
  UniqueFd fd = Open(disk, O_RDWR);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
  EXPECT_EQ(lseek(fd.get(), 5, SEEK_HOLE), 5);
  Fill(fd, 8192, 4096);
  Fill(fd, kSize - 4096, 4096);
  EXPECT_EQ(lseek(fd.get(), 1, SEEK_DATA), 8192);
  EXPECT_EQ(lseek(fd.get(), 9000, SEEK_DATA), 9000);
  EXPECT_EQ(lseek(fd.get(), 9000, SEEK_HOLE), 12288);
  EXPECT_EQ(lseek(fd.get(), kSize - 1, SEEK_HOLE), kSize);
  EXPECT_EQ(lseek(fd.get(), kSize, SEEK_HOLE), -1);
  EXPECT_EQ(errno, ENXIO);
  EXPECT_EQ(lseek(fd.get(), -10, SEEK_END), kSize - 10);
}

TEST(FileSpace, SeeksGiveUpInTime) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.fuse.seek_limit_ns = 0;
  MountedDisk disk(options);
  disk.driver().block_by_block = true;
  UniqueFd fd = Open(disk, O_RDWR);
  // What lies behind the first block could be anything: data it is.
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_DATA), 4096);
  EXPECT_EQ(lseek(fd.get(), kSize - 4096, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
  Fill(fd, 0, kSize / 2);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_HOLE), kSize);
}

TEST(FileSpace, FileSystemIsTheDisk) {
  BGFS_NEEDS_FUSE();
  for (bool in_folder : {false, true}) {
    DiskOptions options;
    options.in_folder = in_folder;
    MountedDisk disk(options);
    UniqueFd fd = Open(disk, O_RDWR);
    Fill(fd, 0, 8192);
    struct statvfs fs = {};
    ASSERT_EQ(statvfs(disk.place().path.c_str(), &fs), 0);
    EXPECT_EQ(fs.f_blocks * fs.f_frsize, uint64_t{kSize});
    EXPECT_EQ((fs.f_blocks - fs.f_bavail) * fs.f_frsize, 8192u);
  }
}

TEST(Folder, ShowsOneFileAndLetsNobodyChangeIt) {
  BGFS_NEEDS_FUSE();
  DiskOptions options;
  options.in_folder = true;
  MountedDisk disk(options);
  const std::string folder = disk.place().path;
  DIR* dir = opendir(folder.c_str());
  ASSERT_NE(dir, nullptr);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(dir)) {
    names.push_back(entry->d_name);
    if (names.back() == "disk.raw") {
      EXPECT_EQ(entry->d_type, DT_REG);
      EXPECT_EQ(entry->d_ino, Stat(disk).st_ino);
    }
  }
  closedir(dir);
  EXPECT_EQ(names, (std::vector<std::string>{".", "..", "disk.raw"}));
  EXPECT_EQ(access((folder + "/none").c_str(), F_OK), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(open((folder + "/new").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600),
            -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(unlink(disk.path().c_str()), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(mkdir((folder + "/sub").c_str(), 0700), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(rename(disk.path().c_str(), (folder + "/b").c_str()), -1);
  EXPECT_EQ(errno, EPERM);
  UniqueFd fd = Open(disk, O_RDWR);
  Fill(fd, 0, 10);
}

}  // namespace
}  // namespace bgfs::fuse
