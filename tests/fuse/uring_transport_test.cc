// The transport over io_uring: what refuses it, its memory, its end. What it
// carries is tested with the files, on both transports.

#include "fuse/uring_transport.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fuse/connection.h"
#include "fuse/folder.h"
#include "fuse/mount.h"
#include "tests/fuse/temp_folder.h"

namespace bgfs::fuse {
namespace {

#define BGFS_NEEDS_URING()                                      \
  if (const std::string why = WhyNoMount(true); !why.empty()) { \
    GTEST_SKIP() << why;                                        \
  }                                                             \
  static_assert(true)

// An empty folder over a transport with these options.
class RingMount {
 public:
  explicit RingMount(const UringTransport::Options& options)
      : target_(temp_.MakeFolder()) {
    auto loop = UringLoop::Start("test-home");
    EXPECT_TRUE(loop.ok()) << loop.error();
    loop_ = *std::move(loop);
    auto mounted = Mount(target_, MountOptions());
    EXPECT_TRUE(mounted.ok()) << mounted.status();
    BlockOn(*loop_, Serve(std::move(mounted->device), options));
    watchdog_ = std::make_unique<Watchdog>(target_);
  }
  ~RingMount() {
    BlockOn(*loop_, Stop());
    EXPECT_TRUE(Unmount(target_, UnmountMode::kLazy).ok());
  }

  // Asks the daemon.
  bool Answers() const {
    struct statx st = {};
    return statx(AT_FDCWD, target_.c_str(), AT_STATX_FORCE_SYNC,
                 STATX_BASIC_STATS, &st) == 0;
  }
  std::string name() { return BlockOn(*loop_, Name()); }
  size_t kept_bytes() { return BlockOn(*loop_, KeptBytes()); }
  // Ends with requests under way.
  Task<void> Stop() {
    if (connection_ != nullptr) co_await connection_->Stop();
    connection_.reset();
  }
  void StopNow() { BlockOn(*loop_, Stop()); }

 private:
  Task<void> Serve(Device device, UringTransport::Options options) {
    auto transport =
        UringTransport::Create(loop_.get(), std::move(device), options);
    EXPECT_TRUE(transport.ok()) << transport.status();
    transport_ = transport->get();
    connection_ =
        std::make_unique<Connection>(*std::move(transport), KernelMask());
    connection_->AddInode(&folder_);
    connection_->Start([] {});
    co_await connection_->WaitSettled();
  }
  Task<std::string> Name() { co_return std::string(transport_->name()); }
  Task<size_t> KeptBytes() { co_return transport_->kept_bytes(); }

  TempFolder temp_;
  const std::string target_;
  std::unique_ptr<UringLoop> loop_;
  Folder folder_{0555, geteuid(), getegid()};
  UringTransport* transport_ = nullptr;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<Watchdog> watchdog_;
};

TEST(UringTransport, CountsTheCpusOfTheKernel) {
  EXPECT_GE(UringTransport::PossibleCpus(),
            std::thread::hardware_concurrency());
}

TEST(UringTransport, IsNotMadeWithoutMemory) {
  auto loop = UringLoop::Start("test");
  ASSERT_TRUE(loop.ok());
  const UringTransport::Options options = {
      .map = [](size_t) -> void* { return MAP_FAILED; }};
  const auto made = UringTransport::Create(loop->get(), Device(), options);
  EXPECT_TRUE(absl::IsResourceExhausted(made.status())) << made.status();
}

TEST(UringTransport, CarriesRequests) {
  BGFS_NEEDS_URING();
  RingMount mount({});
  EXPECT_EQ(mount.name(), "io_uring");
  EXPECT_TRUE(mount.Answers());
  EXPECT_GT(mount.kept_bytes(), 0U);
}

// One missing queue would hang every request that its CPU makes.
TEST(UringTransport, LeavesAllToTheDeviceWhereAQueueIsRefused) {
  BGFS_NEEDS_URING();
  RingMount mount({.last_queue_bytes = 4096});
  EXPECT_EQ(mount.name(), "/dev/fuse");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(mount.Answers());
  EXPECT_EQ(mount.name(), "/dev/fuse");
  EXPECT_EQ(mount.kept_bytes(), 0U);
}

TEST(UringTransport, LivesWithAQueueTooMany) {
  BGFS_NEEDS_URING();
  RingMount mount({.queues = UringTransport::PossibleCpus() + 1});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(mount.Answers());
}

TEST(UringTransport, GivesMemoryBackWhenIdle) {
  BGFS_NEEDS_URING();
  RingMount mount({});
  ASSERT_TRUE(mount.Answers());
  for (int tries = 0; mount.kept_bytes() > 0; ++tries) {
    ASSERT_LT(tries, 20'000);
    usleep(1000);
  }
  EXPECT_TRUE(mount.Answers());
}

// Whoever asks gets an answer or an error, and the connection ends.
TEST(UringTransport, StopsUnderLoad) {
  BGFS_NEEDS_URING();
  for (int round = 0; round < 20; ++round) {
    RingMount mount({});
    ASSERT_TRUE(mount.Answers());
    std::vector<std::thread> askers;
    askers.reserve(4);
    for (int i = 0; i < 4; ++i) {
      askers.emplace_back([&mount] {
        while (mount.Answers()) {
        }
      });
    }
    mount.StopNow();
    for (std::thread& asker : askers) asker.join();
  }
}

}  // namespace
}  // namespace bgfs::fuse
