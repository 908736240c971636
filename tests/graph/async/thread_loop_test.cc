// A disk that hangs, on the thread body: a file whose reads do not end because
// the memory that they read into is not to be had (userfaultfd(2)).

#include "graph/async/thread_loop.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "graph/async/buffer.h"
#include "graph/async/sync.h"
#include "graph/async/thread_file.h"
#include "graph/async/thread_pool.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

constexpr int64_t kBytes = int64_t{64} << 10;

// Memory whose first use blocks until Release().
class AbsentMemory {
 public:
  explicit AbsentMemory(size_t bytes)
      : bytes_(bytes),
        fd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    uffdio_api api = {};
    api.api = UFFD_API;
    uffdio_register range = {};
    range.range = {reinterpret_cast<uint64_t>(data_), bytes_};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    works_ = fd_ >= 0 && ioctl(fd_, UFFDIO_API, &api) == 0 &&
             ioctl(fd_, UFFDIO_REGISTER, &range) == 0;
  }
  ~AbsentMemory() {
    Release();
    munmap(data_, bytes_);
  }
  bool works() const { return works_; }
  void* data() const { return data_; }
  // The kernel wakes whoever waits when it is closed.
  void Release() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  const size_t bytes_;
  int fd_;
  void* const data_;
  bool works_ = false;
};

Task<std::unique_ptr<File>> MustOpen(std::string path, bool direct) {
  OpenOptions options;
  options.direct = direct;
  auto file = co_await Loop::Current()->Open(std::move(path), options);
  EXPECT_TRUE(file.ok());
  if (!file.ok()) std::abort();
  co_return *std::move(file);
}

Task<void> ReadInto(File* file, void* data, int* ended,
                    InFlight::Holder holder) {
  EXPECT_EQ(co_await file->Read(0, IoView(data, kBytes)), kBytes);
  ++*ended;
}

// Far more reads than a file has threads; another file goes on meanwhile.
Task<void> ReadBesideAHungFile(std::string path, AbsentMemory* memory) {
  auto hung = co_await MustOpen(path, false);
  auto other = co_await MustOpen(path, false);
  const int before = ThreadPool::Blocking().threads();
  int ended = 0;
  InFlight reading;
  for (int i = 0; i < 10 * ThreadFile::kMaxThreads; ++i) {
    Spawn(ReadInto(hung.get(), memory->data(), &ended, reading.Hold()));
  }
  AlignedBuffer buffer = AlignedBuffer::Allocate(kBytes);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(co_await other->Read(0, buffer.view()), kBytes);
  }
  EXPECT_EQ(ended, 0);
  // And one for the other file, which may not be idle yet when the next comes.
  EXPECT_LE(ThreadPool::Blocking().threads(),
            before + ThreadFile::kMaxThreads + 2);
  memory->Release();
  co_await reading.WaitIdle();
  EXPECT_EQ(ended, 10 * ThreadFile::kMaxThreads);
}

TEST(ThreadLoop, AHungFileHoldsUpNoOther) {
  AbsentMemory memory(kBytes);
  if (!memory.works()) GTEST_SKIP() << "needs userfaultfd, as root";
  // On tmpfs, which does not read without waiting: so the threads read.
  std::string path = "/dev/shm/bgfs-hung-XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  const std::string content(kBytes, 'x');
  ASSERT_EQ(write(fd, content.data(), content.size()), kBytes);
  close(fd);
  auto loop = ThreadLoop::Start("test", "test");
  ASSERT_TRUE(loop.ok());
  BlockOn(**loop, ReadBesideAHungFile(path, &memory));
  unlink(path.c_str());
}

}  // namespace
}  // namespace bgfs
