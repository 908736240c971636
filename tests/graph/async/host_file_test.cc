// Host files on real file systems: ext4 (or whatever holds the temporary
// folder) and tmpfs, buffered and O_DIRECT.

#include "graph/async/host_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "graph/async/buffer.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/graph/async/test_loop.h"

namespace bgfs {
namespace {

constexpr int64_t kKiB = 1024;

Task<std::unique_ptr<File>> MustOpen(std::string path, OpenOptions options) {
  auto file = co_await Loop::Current()->Open(std::move(path), options);
  if (!file.ok()) {
    ADD_FAILURE() << "open: " << strerror(file.error());
    std::abort();
  }
  co_return *std::move(file);
}

void Touch(const std::string& path) { const std::ofstream file(path); }

Task<void> Close(std::unique_ptr<File> file) {
  file.reset();
  co_return;
}

// A file in a folder of its own, removed at the end.
class HostFileTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string name = absl::StrCat(GetParam(), "/bgfs-file-test-XXXXXX");
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name = "file") const {
    return absl::StrCat(folder_, "/", name);
  }
  std::string Create(const std::string& content) const {
    std::ofstream(Path()) << content;
    return Path();
  }
  bool DirectWorks() const {
    const int fd = open(Path().c_str(), O_RDWR | O_DIRECT);
    if (fd >= 0) close(fd);
    return fd >= 0;
  }

  std::unique_ptr<HostLoop> loop_ = StartLoop();
  std::string folder_;
};
INSTANTIATE_TEST_SUITE_P(FileSystems, HostFileTest,
                         testing::Values(testing::TempDir(), "/dev/shm"),
                         [](const auto& info) {
                           return info.param == "/dev/shm" ? "Tmpfs" : "Disk";
                         });

Task<std::string> ReadText(File* file, int64_t offset, int64_t bytes) {
  std::string text(static_cast<size_t>(bytes), '?');
  const int64_t count = co_await file->Read(offset, IoView(&text[0], bytes));
  EXPECT_GE(count, 0);
  text.resize(static_cast<size_t>(std::max<int64_t>(0, count)));
  co_return text;
}

Task<int64_t> WriteText(File* file, int64_t offset, std::string text) {
  co_return co_await file->Write(
      offset, IoView(text.data(), static_cast<int64_t>(text.size())));
}

Task<void> ReadAndWrite(std::string path) {
  auto file = co_await MustOpen(path, {.writable = true});
  EXPECT_EQ(co_await ReadText(file.get(), 0, 100), "0123456789");
  EXPECT_EQ(co_await ReadText(file.get(), 8, 100), "89");  // short at the end
  EXPECT_EQ(co_await ReadText(file.get(), 10, 100), "");
  EXPECT_EQ(co_await ReadText(file.get(), 1 << 20, 100), "");
  EXPECT_EQ(co_await WriteText(file.get(), 4, "abc"), 3);
  EXPECT_EQ(co_await ReadText(file.get(), 0, 100), "0123abc789");
  EXPECT_EQ(co_await WriteText(file.get(), 12, "end"), 3);
  EXPECT_EQ(co_await ReadText(file.get(), 8, 100), std::string("89\0\0end", 7));
  EXPECT_EQ(co_await file->DataSync(), 0);
  EXPECT_EQ(co_await file->Sync(), 0);
  EXPECT_EQ(co_await file->Read(0, IoView()), 0);
}

TEST_P(HostFileTest, ReadsAndWrites) {
  BlockOn(*loop_, ReadAndWrite(Create("0123456789")));
}

// Sizes on both sides of what is done inline.
Task<void> TransferScattered(std::string path, int64_t bytes) {
  auto file = co_await MustOpen(path, {.writable = true});
  std::string text(static_cast<size_t>(bytes), '\0');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(i * 7 + i / 251);
  }
  const size_t third = text.size() / 3;
  std::string from = text;
  const iovec out[] = {{from.data(), third},
                       {from.data() + third, 1},
                       {from.data() + third + 1, text.size() - third - 1}};
  EXPECT_EQ(co_await file->Write(5, IoView(absl::MakeConstSpan(out))), bytes);
  std::string to(text.size(), '?');
  const iovec in[] = {{to.data(), 3},
                      {to.data() + 3, text.size() - third},
                      {to.data() + 3 + text.size() - third, third - 3}};
  EXPECT_EQ(co_await file->Read(5, IoView(absl::MakeConstSpan(in))), bytes);
  EXPECT_TRUE(to == text);
  // A part of the pieces only.
  const IoView part = IoView(absl::MakeConstSpan(in)).Slice(2, bytes - 4);
  part.Zero();
  EXPECT_EQ(co_await file->Read(7, part), bytes - 4);
  EXPECT_TRUE(to == text);
}

TEST_P(HostFileTest, TransfersScatteredViews) {
  for (const int64_t bytes : {int64_t{10}, 4 * kKiB, 64 * kKiB, 1000 * kKiB}) {
    BlockOn(*loop_, TransferScattered(Create(""), bytes));
  }
}

Task<void> WriteBlock(File* file, int64_t index, InFlight::Holder holder) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(4 * kKiB);
  std::fill_n(buffer.data(), buffer.size(), static_cast<char>(index));
  EXPECT_EQ(co_await file->Write(index * 4 * kKiB, buffer.view()), 4 * kKiB);
  buffer.view().Zero();
  EXPECT_EQ(co_await file->Read(index * 4 * kKiB, buffer.view()), 4 * kKiB);
  EXPECT_EQ(buffer.data()[0], static_cast<char>(index));
  EXPECT_EQ(buffer.data()[4095], static_cast<char>(index));
}

Task<void> WriteInParallel(std::string path, OpenOptions options) {
  auto file = co_await MustOpen(path, options);
  InFlight running;
  for (int64_t i = 0; i < 1500; ++i) {
    Spawn(WriteBlock(file.get(), i, running.Hold()));
  }
  co_await running.WaitIdle();
}

// Says whether an operation ended at once.
struct Started {
  File* file;
  FileOp op;
  bool at_once = false;
  bool await_ready() noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    op.waiter = waiter;
    at_once = file->Start(&op);
    return !at_once;
  }
  int64_t await_resume() noexcept { return op.result; }
};

Task<void> Transfer(File* file, FileOp::Kind kind, IoView view, bool* at_once,
                    InFlight::Holder holder) {
  Started started{file, {}};
  started.op.kind = kind;
  started.op.view = view;
  started.op.bytes = view.size();
  EXPECT_EQ(co_await started, view.size());
  *at_once = started.at_once;
}

// In one turn of the loop.
Task<void> TransferTwice(File* file, FileOp::Kind kind, int64_t bytes,
                         bool* first, bool* second) {
  co_await Loop::Current()->Yield();
  AlignedBuffer buffers[] = {AlignedBuffer::Allocate(bytes),
                             AlignedBuffer::Allocate(bytes)};
  for (AlignedBuffer& buffer : buffers) {
    std::fill_n(buffer.data(), bytes, kind == FileOp::Kind::kWrite ? 'w' : '?');
  }
  InFlight running;
  Spawn(Transfer(file, kind, buffers[0].view(), first, running.Hold()));
  Spawn(Transfer(file, kind, buffers[1].view(), second, running.Hold()));
  co_await running.WaitIdle();
  for (const AlignedBuffer& buffer : buffers) {
    EXPECT_EQ(std::count(buffer.data(), buffer.data() + bytes, 'w'), bytes);
  }
}

// tmpfs is in memory and cannot be asked to read only from there.
bool CanReadWithoutWaiting(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY);
  char byte = 0;
  const iovec piece{&byte, 1};
  const ssize_t count = preadv2(fd, &piece, 1, 0, RWF_NOWAIT);
  close(fd);
  return count == 0;
}

Task<void> CopyLargeOnes(std::string path) {
  auto file = co_await MustOpen(path, {.writable = true});
  std::vector<FileOp::Kind> kinds = {FileOp::Kind::kWrite};
  if (CanReadWithoutWaiting(path)) kinds.push_back(FileOp::Kind::kRead);
  for (const FileOp::Kind kind : kinds) {
    bool first = false;
    bool second = false;
    co_await TransferTwice(file.get(), kind, 1000 * kKiB, &first, &second);
    EXPECT_TRUE(first);    // nobody would go on meanwhile
    EXPECT_FALSE(second);  // another thread copies it
    // One that has not been slow: those go to the lane for a while.
    auto fresh = co_await MustOpen(path, {.writable = true});
    const auto begun = std::chrono::steady_clock::now();
    co_await TransferTwice(fresh.get(), kind, 32 * kKiB, &first, &second);
    const auto took = std::chrono::steady_clock::now() - begun;
    EXPECT_TRUE(first);
    EXPECT_TRUE(second || took > std::chrono::milliseconds(3));
  }
}

TEST_P(HostFileTest, SharesOutLargeCopies) {
  BlockOn(*loop_, CopyLargeOnes(Create("")));
}

// Large reads of what is not in the page cache.
Task<void> ReadCold(std::string path, int64_t bytes) {
  auto file = co_await MustOpen(path, {});
  bool first = false;
  bool second = false;
  co_await TransferTwice(file.get(), FileOp::Kind::kRead, bytes, &first,
                         &second);
}

TEST_P(HostFileTest, ReadsLargeOnesFromTheDisk) {
  Create(std::string(1000 * kKiB, 'w'));
  for (int i = 0; i < 20; ++i) {
    const int fd = open(Path().c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(fdatasync(fd), 0);
    ASSERT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
    BlockOn(*loop_, ReadCold(Path(), 1000 * kKiB));
  }
}

TEST_P(HostFileTest, ServesManyAtOnce) {
  BlockOn(*loop_, WriteInParallel(Create(""), {.writable = true}));
  if (DirectWorks()) {
    BlockOn(*loop_,
            WriteInParallel(Create(""), {.writable = true, .direct = true}));
  }
}

Task<void> UseDirect(std::string path, bool strict) {
  auto file = co_await MustOpen(path, {.writable = true, .direct = true});
  const auto info = co_await file->Stat();
  EXPECT_TRUE(info.ok());
  const int64_t unit = info->request_alignment;
  EXPECT_GE(unit, 1);
  EXPECT_LE(unit, 4096);
  EXPECT_LE(info->memory_alignment, 4096);
  AlignedBuffer buffer = AlignedBuffer::Allocate(2 * unit);
  std::fill_n(buffer.data(), buffer.size(), 'd');
  EXPECT_EQ(co_await file->Write(unit, buffer.view(0, unit)), unit);
  EXPECT_EQ(co_await file->Truncate(unit + 10), 0);
  buffer.view().Zero();
  EXPECT_EQ(co_await file->Read(unit, buffer.view(0, unit)), 10);
  EXPECT_EQ(std::string(buffer.data(), 11), std::string("dddddddddd\0", 11));
  if (!strict) co_return;
  EXPECT_EQ(co_await file->Read(1, buffer.view(0, unit)), -EINVAL);
  EXPECT_EQ(co_await file->Write(0, buffer.view(0, unit - 1)), -EINVAL);
}

TEST_P(HostFileTest, DirectFilesSayTheirAlignment) {
  Create("");
  if (!DirectWorks()) GTEST_SKIP() << "no O_DIRECT on " << folder_;
  const bool strict = GetParam() != "/dev/shm";  // tmpfs takes any
  BlockOn(*loop_, UseDirect(Path(), strict));
}

Task<int64_t> AllocatedBytes(File* file) {
  const auto info = co_await file->Stat();
  EXPECT_TRUE(info.ok());
  co_return info->allocated_bytes;
}

Task<void> ChangeExtents(std::string path) {
  auto file = co_await MustOpen(path, {.writable = true});
  constexpr int64_t kSize = 1024 * kKiB;
  EXPECT_EQ(co_await file->Truncate(kSize), 0);
  EXPECT_EQ(co_await AllocatedBytes(file.get()), 0);
  EXPECT_EQ((co_await file->SeekData(0)).error(), ENXIO);
  EXPECT_EQ(*co_await file->SeekHole(0), 0);

  EXPECT_EQ(
      co_await WriteText(file.get(), 256 * kKiB, std::string(256 * kKiB, 'x')),
      256 * kKiB);
  EXPECT_EQ(co_await file->Sync(), 0);
  EXPECT_EQ(co_await AllocatedBytes(file.get()), 256 * kKiB);
  EXPECT_EQ(*co_await file->SeekData(0), 256 * kKiB);
  EXPECT_EQ(*co_await file->SeekHole(256 * kKiB), 512 * kKiB);
  EXPECT_EQ((co_await file->SeekData(512 * kKiB)).error(), ENXIO);
  EXPECT_EQ((co_await file->SeekHole(kSize)).error(), ENXIO);

  EXPECT_EQ(co_await file->Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    320 * kKiB, 64 * kKiB),
            0);
  EXPECT_EQ(co_await AllocatedBytes(file.get()), 192 * kKiB);
  EXPECT_EQ(*co_await file->SeekHole(256 * kKiB), 320 * kKiB);
  EXPECT_EQ(co_await ReadText(file.get(), 320 * kKiB - 1, 3),
            std::string("x\0\0", 3));
  const int64_t zeroed = co_await file->Allocate(
      FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 256 * kKiB, 64 * kKiB);
  EXPECT_THAT(zeroed, testing::AnyOf(0, -EOPNOTSUPP));  // tmpfs has none
  EXPECT_EQ(co_await ReadText(file.get(), 256 * kKiB, 1),
            std::string(1, zeroed == 0 ? '\0' : 'x'));

  EXPECT_EQ(co_await file->Truncate(100), 0);
  EXPECT_EQ((*co_await file->Stat()).size, 100);
  EXPECT_EQ(co_await file->Truncate(-1), -EINVAL);
  EXPECT_EQ(co_await file->Allocate(0, 0, 64 * kKiB), 0);
  EXPECT_EQ((*co_await file->Stat()).size, 64 * kKiB);
  EXPECT_EQ(co_await AllocatedBytes(file.get()), 64 * kKiB);
}

TEST_P(HostFileTest, TruncatesPunchesAndFindsHoles) {
  BlockOn(*loop_, ChangeExtents(Create("")));
}

Task<int> OpenError(std::string path, OpenOptions options) {
  auto file = co_await Loop::Current()->Open(path, options);
  co_return file.error();
}

Task<void> WriteReadOnly(std::string path) {
  auto file = co_await MustOpen(path, {});
  EXPECT_EQ(co_await WriteText(file.get(), 0, "x"), -EBADF);
  EXPECT_EQ(co_await ReadText(file.get(), 0, 4), "text");
}

TEST_P(HostFileTest, RefusesWithTheErrnoOfTheKernel) {
  EXPECT_EQ(BlockOn(*loop_, OpenError(Path("none"), {})), ENOENT);
  EXPECT_EQ(BlockOn(*loop_, OpenError(folder_, {})), EISDIR);
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(BlockOn(*loop_, OpenError(Path("fifo"), {})), EINVAL);
  EXPECT_EQ(BlockOn(*loop_, OpenError("/dev/null", {})), EINVAL);
  BlockOn(*loop_, WriteReadOnly(Create("text")));
}

Task<void> StatFile(std::string path, struct stat expected) {
  auto file = co_await MustOpen(path, {});
  const auto info = co_await file->Stat();
  EXPECT_TRUE(info.ok());
  EXPECT_EQ(info->type, FileInfo::Type::kRegular);
  EXPECT_EQ(info->size, expected.st_size);
  EXPECT_EQ(info->device, expected.st_dev);
  EXPECT_EQ(info->inode, expected.st_ino);
  EXPECT_EQ(info->request_alignment, 1);
  EXPECT_EQ(info->memory_alignment, 1);
}

TEST_P(HostFileTest, DescribesItself) {
  struct stat expected{};
  ASSERT_EQ(stat(Create("12345").c_str(), &expected), 0);
  BlockOn(*loop_, StatFile(Path(), expected));
}

Task<void> LockTwice(std::string path) {
  auto first = co_await MustOpen(path, {.writable = true});
  auto second = co_await MustOpen(path, {});
  EXPECT_FALSE(*second->WouldConflict(101));
  EXPECT_TRUE(first->LockShared(101).ok());
  EXPECT_FALSE(*first->WouldConflict(101));  // its own
  EXPECT_TRUE(*second->WouldConflict(101));
  EXPECT_FALSE(*second->WouldConflict(100));
  EXPECT_FALSE(*second->WouldConflict(102));
  EXPECT_TRUE(second->LockShared(101).ok());
  EXPECT_TRUE(*first->WouldConflict(101));
  EXPECT_TRUE(second->Unlock(101).ok());
  EXPECT_FALSE(*first->WouldConflict(101));
  EXPECT_TRUE(second->LockShared(101).ok());
  co_await Close(std::move(second));  // a lock ends with its description
  EXPECT_FALSE(*first->WouldConflict(101));
}

TEST_P(HostFileTest, LocksBytesOfADescription) {
  BlockOn(*loop_, LockTwice(Create("")));
}

// Another process that holds an exclusive lock on byte 201 until it ends.
class Locker {
 public:
  explicit Locker(const std::string& path) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    pid_ = fork();
    if (pid_ == 0) {
      const std::string script = absl::StrCat(
          "import fcntl,os,struct,signal\n"
          "fd=os.open('",
          path,
          "',os.O_RDWR)\n"
          "fcntl.fcntl(fd,38,struct.pack('hhqqi',1,0,201,1,0))\n"
          "os.write(",
          ready[1],
          ",b'r')\n"
          "signal.pause()\n");
      execlp("python3", "python3", "-c", script.c_str(), nullptr);
      _exit(127);
    }
    close(ready[1]);
    char byte = 0;
    ready_ = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
  }
  ~Locker() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  bool ready() const { return ready_; }
  std::string Description() const {
    return absl::StrCat("python3 (pid ", pid_, ")");
  }

 private:
  pid_t pid_ = 0;
  bool ready_ = false;
};

Task<void> MeetLock(std::string path, std::string holder) {
  auto file = co_await MustOpen(path, {.writable = true});
  EXPECT_EQ(file->LockShared(201).error(), EAGAIN);
  EXPECT_TRUE(*file->WouldConflict(201));
  EXPECT_EQ(file->DescribeLockHolders(), holder);
}

Task<void> MeetNoLock(std::string path) {
  auto file = co_await MustOpen(path, {.writable = true});
  EXPECT_EQ(file->DescribeLockHolders(), "");
  EXPECT_TRUE(file->LockShared(201).ok());
}

TEST_P(HostFileTest, NamesWhoHoldsALock) {
  Create("");
  Touch(Path("other"));
  {
    const Locker other(Path("other"));
    const Locker locker(Path());
    ASSERT_TRUE(locker.ready());
    BlockOn(*loop_, MeetLock(Path(), locker.Description()));
  }
  BlockOn(*loop_, MeetNoLock(Path()));
}

// A file system of its own in a file. stat(2) names each btrfs subvolume as a
// device; locks name the whole file system.
class BtrfsMount {
 public:
  explicit BtrfsMount(const std::string& folder)
      : image_(folder + "/btrfs.img"), folder_(folder + "/mnt") {
    Touch(image_);
    std::filesystem::resize_file(image_, 128 * kKiB * kKiB);
    std::filesystem::create_directory(folder_);
    mounted_ =
        std::system(absl::StrCat("mkfs.btrfs -q ", image_,
                                 " >/dev/null 2>&1 && mount -o loop ", image_,
                                 " ", folder_, " >/dev/null 2>&1")
                        .c_str()) == 0;
  }
  ~BtrfsMount() {
    if (mounted_) umount2(folder_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  std::string Path() const { return folder_ + "/file"; }

 private:
  const std::string image_;
  const std::string folder_;
  bool mounted_ = false;
};

TEST_P(HostFileTest, NamesWhoHoldsALockOnBtrfs) {
  const BtrfsMount btrfs(folder_);
  if (!btrfs.mounted()) GTEST_SKIP() << "cannot mount btrfs here";
  Touch(btrfs.Path());
  const Locker locker(btrfs.Path());
  ASSERT_TRUE(locker.ready());
  BlockOn(*loop_, MeetLock(btrfs.Path(), locker.Description()));
}

}  // namespace
}  // namespace bgfs
