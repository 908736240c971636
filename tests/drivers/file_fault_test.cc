// The file driver on a disk that fails on command.

#include <linux/falloc.h>

#include <cerrno>

#include "drivers/file.h"
#include "gmock/gmock.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One node in a simulated world, over "disk.img".
class SimDiskNode {
 public:
  SimDiskNode(SimWorld* world, const std::string& cache)
      : world_(world), graph_(&world->loop()) {
    context_.warn = [this](absl::string_view line) {
      warnings_.emplace_back(line);
    };
    world_->Run(Open(cache));
  }
  ~SimDiskNode() { world_->Run(Close()); }

  Backend& backend() { return *backend_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  int64_t size() const { return backend_->size(); }

  int Write(int64_t offset, const std::string& data) {
    return world_
        ->Run(backend_->Write(
            offset, IoView(data.data(), static_cast<int64_t>(data.size()))))
        .error();
  }
  std::string Read(int64_t offset, int64_t bytes) {
    std::string data(static_cast<size_t>(bytes), '?');
    const IoStatus status =
        world_->Run(backend_->Read(offset, IoView(data.data(), bytes)));
    return status.ok() ? data : absl::StrCat("errno ", status.error());
  }
  int Zero(int64_t offset, int64_t bytes, RequestFlags flags) {
    return world_->Run(backend_->Zero(offset, bytes, flags)).error();
  }
  int Truncate(int64_t size_bytes, Preallocation how = Preallocation::kOff) {
    return world_->Run(backend_->Truncate(size_bytes, true, how)).error();
  }
  int Flush() { return world_->Run(backend_->Flush()).error(); }
  // As the statistics say it.
  int failed_flush() const {
    DriverStatistics statistics;
    backend_->node().driver().AddStatistics(&statistics);
    return statistics.failed_flush.error();
  }

 private:
  Task<void> Open(std::string cache) {
    const proto::Node spec =
        ParseNode(absl::StrCat("read_only: false discard: UNMAP ", cache,
                               " file { filename: \"disk.img\" }"));
    auto node = co_await OpenNode(graph_, spec, context_);
    EXPECT_TRUE(node.ok()) << node.status();
    auto backend =
        Backend::Create("test", *node, {kReadWrite, kAllPermissions});
    EXPECT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
  }
  Task<void> Close() {
    backend_.reset();
    (co_await graph_.Close()).IgnoreError();
  }

  SimWorld* const world_;
  Graph graph_;
  OpenContext context_;
  std::vector<std::string> warnings_;
  std::unique_ptr<Backend> backend_;
};

constexpr char kBuffered[] = "";
constexpr char kDirect[] = "cache { direct: true }";

class FileFaultTest : public ::testing::TestWithParam<const char*> {
 protected:
  FileFaultTest() : world_(1) {
    world_.disk().Create("disk.img", std::string(10000, 'a'));
  }
  SimWorld world_;
};

TEST_P(FileFaultTest, FailedFlushIsNeverMadeGood) {
  {
    SimDiskNode node(&world_, GetParam());
    EXPECT_EQ(node.Write(0, std::string(4096, 'b')), 0);
    world_.disk().Inject({.kind = FileOp::Kind::kDataSync, .error = ENOSPC});
    EXPECT_EQ(node.failed_flush(), 0);
    EXPECT_EQ(node.Flush(), ENOSPC);
    EXPECT_EQ(node.Flush(), EIO);
    EXPECT_EQ(node.failed_flush(), ENOSPC) << "the first one";
    EXPECT_EQ(node.Write(0, std::string(4096, 'c')), 0);
    EXPECT_EQ(node.Flush(), EIO);
    EXPECT_THAT(node.warnings(),
                ElementsAre(HasSubstr(
                    "\"disk.img\": writing to the disk failed (No space")));
  }
  SimDiskNode again(&world_, GetParam());
  EXPECT_EQ(again.Flush(), 0);
}

TEST_P(FileFaultTest, InterruptionsAreNotSeen) {
  SimDiskNode node(&world_, GetParam());
  for (const auto kind :
       {FileOp::Kind::kRead, FileOp::Kind::kWrite, FileOp::Kind::kDataSync,
        FileOp::Kind::kAllocate, FileOp::Kind::kTruncate}) {
    world_.disk().Inject({.kind = kind, .count = 3, .error = EINTR});
  }
  EXPECT_EQ(node.Write(3, "bcd"), 0);
  EXPECT_EQ(node.Read(2, 5), "abcda");
  EXPECT_EQ(node.Zero(4096, 4096, kMayUnmap), 0);
  EXPECT_EQ(node.Truncate(20000), 0);
  EXPECT_EQ(node.Flush(), 0);
  EXPECT_EQ(node.Read(9999, 2), std::string("a\0", 2));
}

TEST_P(FileFaultTest, ShortTransfersGoOn) {
  SimDiskNode node(&world_, GetParam());
  std::string data;
  for (int i = 0; i < 8192; ++i) data += static_cast<char>(i * 7 / 3);
  world_.disk().Inject({.kind = FileOp::Kind::kWrite,
                        .count = 5,
                        .error = 0,
                        .short_bytes = 1000});
  EXPECT_EQ(node.Write(0, data), 0);
  EXPECT_EQ(world_.disk().Content("disk.img"), data + std::string(1808, 'a'));
  world_.disk().Inject({.kind = FileOp::Kind::kRead,
                        .count = 5,
                        .error = 0,
                        .short_bytes = 1000});
  EXPECT_EQ(node.Read(0, 8192), data);
}

TEST_P(FileFaultTest, WritesThatGoNowhereEnd) {
  SimDiskNode node(&world_, GetParam());
  world_.disk().Inject({.kind = FileOp::Kind::kWrite,
                        .count = 1000,
                        .error = 0,
                        .short_bytes = 0});
  EXPECT_EQ(node.Write(0, std::string(4096, 'b')), EIO);
}

TEST_P(FileFaultTest, ErrorsAreThoseOfTheDisk) {
  SimDiskNode node(&world_, GetParam());
  world_.disk().Inject({.kind = FileOp::Kind::kRead, .error = EIO});
  EXPECT_EQ(node.Read(0, 4096), absl::StrCat("errno ", EIO));
  world_.disk().Inject({.kind = FileOp::Kind::kWrite, .error = EDQUOT});
  EXPECT_EQ(node.Write(0, std::string(4096, 'b')), EDQUOT);
  EXPECT_EQ(node.Write(0, std::string(4096, 'c')), 0);
  EXPECT_EQ(node.Read(0, 4096), std::string(4096, 'c'));
}

TEST_P(FileFaultTest, GoesOnWhenThereIsSpaceAgain) {
  world_.disk().CreateSparse("other.img", 0);
  SimDiskNode node(&world_, GetParam());
  EXPECT_EQ(node.Truncate(100000), 0);
  world_.disk().options().capacity_bytes = world_.disk().AllocatedBytes();
  EXPECT_EQ(node.Write(40960, std::string(4096, 'b')), ENOSPC);
  EXPECT_EQ(node.Write(0, std::string(4096, 'c')), 0);
  EXPECT_EQ(node.Flush(), 0);
  world_.disk().options().capacity_bytes += 4096;
  EXPECT_EQ(node.Write(40960, std::string(4096, 'b')), 0);
  EXPECT_EQ(node.Flush(), 0);
  EXPECT_EQ(node.Read(40960, 4096), std::string(4096, 'b'));
}

TEST_P(FileFaultTest, FailedPreallocationLeavesTheSize) {
  SimDiskNode node(&world_, GetParam());
  world_.disk().options().capacity_bytes =
      world_.disk().AllocatedBytes() + 8192;
  for (const auto how : {Preallocation::kFalloc, Preallocation::kFull}) {
    EXPECT_EQ(node.Truncate(100000, how), ENOSPC);
    EXPECT_EQ(node.size(), 10000);
    EXPECT_EQ(world_.disk().Content("disk.img"), std::string(10000, 'a'));
  }
}

TEST_P(FileFaultTest, RemembersWhatTheFileSystemCannotDo) {
  SimDiskNode node(&world_, GetParam());
  const int64_t full = world_.disk().AllocatedBytes();
  world_.disk().Inject(
      {.kind = FileOp::Kind::kAllocate, .count = 2, .error = EOPNOTSUPP});
  EXPECT_EQ(node.Zero(0, 4096, kMayUnmap), 0);
  EXPECT_EQ(node.Read(0, 4097), std::string(4096, '\0') + "a");
  EXPECT_EQ(node.Zero(4096, 4096, kMayUnmap), 0);
  EXPECT_EQ(world_.disk().AllocatedBytes(), full) << "it asked again";
}

INSTANTIATE_TEST_SUITE_P(Caches, FileFaultTest,
                         ::testing::Values(kBuffered, kDirect),
                         [](const auto& cache) {
                           return std::string(
                               cache.param == kDirect ? "Direct" : "Buffered");
                         });

Task<void> WriteInto(Backend* backend, int64_t offset, std::string data,
                     InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  const IoStatus status = co_await backend->Write(
      offset, IoView(data.data(), static_cast<int64_t>(data.size())));
  EXPECT_TRUE(status.ok());
}

// The first write goes to the partial block, through the page cache; the second
// to whole blocks.
Task<int64_t> OpsOfTwoWrites(SimWorld* world, Backend* backend,
                             int64_t second_at) {
  InFlight running;
  world->disk().Hang("disk.img");
  Spawn(WriteInto(backend, 9996, "tail", running.Hold()));
  Spawn(WriteInto(backend, second_at, std::string(512, 'b'), running.Hold()));
  for (int i = 0; i < 1000; ++i) co_await world->loop().Yield();
  const int64_t ops = world->disk().in_flight();
  world->disk().Release("disk.img");
  co_await running.WaitIdle();
  co_return ops;
}

// A page may be worked on directly or through the page cache, not both: the
// kernel is coherent only then.
TEST(FileTailTest, WhatTouchesThePartialBlockHasItsPage) {
  SimWorld world(3);
  world.disk().Create("disk.img", std::string(10000, 'a'));
  SimDiskNode node(&world, kDirect);
  ASSERT_EQ(node.backend().node().limits().request_alignment, 512);
  EXPECT_EQ(world.Run(OpsOfTwoWrites(&world, &node.backend(), 8192)), 1);
  EXPECT_EQ(world.Run(OpsOfTwoWrites(&world, &node.backend(), 8192 - 512)), 2);
  EXPECT_EQ(node.Read(8192 - 512, 1025), std::string(1024, 'b') + "a");
  EXPECT_EQ(node.Read(9996, 4), "tail");
}

TEST(FileOnDeviceTest, KeepsItsSize) {
  SimWorld world(2);
  world.disk().CreateDevice("disk.img", 65536);
  SimDiskNode node(&world, kBuffered);
  EXPECT_EQ(node.size(), 65536);
  EXPECT_EQ(node.Truncate(65536), 0);
  EXPECT_EQ(node.Truncate(70000), ENOTSUP);
  EXPECT_EQ(node.Truncate(60000), ENOTSUP);
  EXPECT_EQ(node.Write(60000, "abc"), 0);
  EXPECT_EQ(node.Zero(1, 65000, kMayUnmap), 0);
  EXPECT_EQ(node.Read(0, 65536), std::string(65536, '\0'));
}

}  // namespace
}  // namespace bgfs
