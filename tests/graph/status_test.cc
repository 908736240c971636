// Block status, of a layer and through a chain (engine.md, 2.9).

#include "graph/status.h"

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;

constexpr uint32_t kData = BlockStatus::kData | BlockStatus::kAllocated;
constexpr uint32_t kZeros = BlockStatus::kZero | BlockStatus::kAllocated;
constexpr uint32_t kEof = BlockStatus::kEof;
constexpr uint32_t kNothing = 0;

// The extent at an offset of a list of (end, flags).
using Extents = std::vector<std::pair<int64_t, uint32_t>>;

void SetExtents(TestDriver* driver, const Extents& extents) {
  driver->block_status = [extents](int64_t offset, int64_t) {
    for (const auto& [end, flags] : extents) {
      if (offset < end) return BlockStatus{flags, end - offset, nullptr, 0};
    }
    return BlockStatus{};
  };
}

void ExpectStatus(const IoResult<BlockStatus>& status, uint32_t flags,
                  int64_t bytes) {
  EXPECT_TRUE(status.ok());
  if (!status.ok()) return;
  EXPECT_EQ(status->flags, flags);
  EXPECT_EQ(status->bytes, bytes);
}

ENGINE_TEST(Status, HoldsNeverPastTheRangeOrTheEnd) {
  TestDriver& disk = graph->Add("disk", 10000);
  Backend& user = graph->Open(disk);
  SetExtents(&disk, {{4096, kData}, {1 << 20, kZeros}});
  Child& root = user.root();
  ExpectStatus(co_await root.Status(nullptr, 0, 100, true), kData, 100);
  ExpectStatus(co_await root.Status(nullptr, 100, 8192, true), kData, 3996);
  ExpectStatus(co_await root.Status(nullptr, 4096, 1000, true), kZeros, 1000);
  ExpectStatus(co_await root.Status(nullptr, 5000, 8192, true), kZeros | kEof,
               5000);
  ExpectStatus(co_await root.Status(nullptr, 10000, 512, true),
               BlockStatus::kZero | kEof, 512);
}

ENGINE_TEST(Status, IsAligned) {
  TestDriver& disk = graph->Add("disk", 10000, Aligned(512));
  Backend& user = graph->Open(disk);
  SetExtents(&disk, {{1000, kZeros}, {1200, kData}, {10000, kZeros}});
  Child& root = user.root();
  ExpectStatus(co_await root.Status(nullptr, 100, 4096, true), kZeros, 412);
  EXPECT_EQ(disk.calls, (std::vector<Call>{{Op::kStatus, 0, 4608}}))
      << "the driver is asked for whole blocks";
  ExpectStatus(co_await root.Status(nullptr, 600, 4096, true), kData,
               424);  // a block of two kinds is data
  ExpectStatus(co_await root.Status(nullptr, 9000, 4096, true), kZeros | kEof,
               1000);
}

ENGINE_TEST(Status, SaysWhereTheBytesAre) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(512));
  Backend& user = graph->Open(disk);
  disk.block_status = [&disk](int64_t offset, int64_t bytes) {
    return BlockStatus{kData | BlockStatus::kRaw, bytes, &disk.node(),
                       offset + 65536};
  };
  auto status = co_await user.root().Status(nullptr, 700, 100, true);
  ExpectStatus(status, kData | BlockStatus::kRaw, 100);
  EXPECT_EQ(status->file, &disk.node());
  EXPECT_EQ(status->file_offset, 65536 + 700);
}

ENGINE_TEST(Status, IsTrackedAsARead) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  auto write = Start(user.Write(0, View(data), kSerialise));
  auto inside = Start(user.Status(100, 100));
  auto beside = Start(user.Status(512, 100));
  co_await Settle();
  EXPECT_FALSE(inside->done());
  EXPECT_TRUE(beside->done());
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(write->done() && inside->done());
}

ENGINE_TEST(Status, AnErrorIsPassedOn) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  disk.Fail(Op::kStatus, EIO);
  EXPECT_IO_ERROR(co_await user.Status(0, 512), EIO);
}

// top over middle (shorter) over base.
struct Chain {
  explicit Chain(TestGraph* graph)
      : base(graph->Add("base", 10000)),
        middle(graph->Add("middle", 6000)),
        top(graph->Add("top", 10000)) {
    graph->Attach(middle, "backing", ChildRole::kBacking, base);
    graph->Attach(top, "backing", ChildRole::kBacking, middle);
    SetExtents(&top, {{1000, kData}, {9000, kNothing}, {10000, kZeros}});
    SetExtents(&middle, {{2000, kNothing}, {3000, kZeros}, {6000, kNothing}});
    SetExtents(&base, {{1500, kNothing}, {4000, kData}, {10000, kNothing}});
  }
  TestDriver& base;
  TestDriver& middle;
  TestDriver& top;
};

// --- The cache of a protocol node --------------------------------------------

// A file that is data throughout and says so, or a hole.
BlockStatus Extent(TestDriver& disk, int64_t offset, bool data) {
  BlockStatus status;
  status.flags = BlockStatus::kAllocated | BlockStatus::kRaw |
                 (data ? BlockStatus::kData : BlockStatus::kZero);
  status.bytes = disk.node().size() - offset;
  status.file = &disk.node();
  status.file_offset = offset;
  return status;
}

ENGINE_TEST(StatusCache, AnExtentOfDataIsLookedUpOnce) {
  TestDriver& disk = graph->Add("disk", 8192);
  disk.block_status = [&disk](int64_t offset, int64_t) {
    return Extent(disk, offset, true);
  };
  Child& root = graph->Open(disk).root();
  for (const int64_t offset : {1024, 4096, 8000, 1024}) {
    const auto status = co_await root.Status(nullptr, offset, 100, true);
    EXPECT_IO_OK(status);
    EXPECT_EQ(status->flags & ~BlockStatus::kEof,
              BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw);
    EXPECT_EQ(status->bytes, 100);
    EXPECT_EQ(status->file, &disk.node());
    EXPECT_EQ(status->file_offset, offset);
  }
  EXPECT_EQ(disk.count(Op::kStatus), 1);
  EXPECT_IO_OK(co_await root.Status(nullptr, 0, 100, true));
  EXPECT_EQ(disk.count(Op::kStatus), 2) << "before the extent";
}

ENGINE_TEST(StatusCache, HolesAreNotRemembered) {
  TestDriver& disk = graph->Add("disk", 8192);
  disk.block_status = [&disk](int64_t offset, int64_t) {
    return Extent(disk, offset, false);
  };
  Child& root = graph->Open(disk).root();
  EXPECT_IO_OK(co_await root.Status(nullptr, 0, 100, true));
  EXPECT_IO_OK(co_await root.Status(nullptr, 0, 100, true));
  EXPECT_EQ(disk.count(Op::kStatus), 2);
}

ENGINE_TEST(StatusCache, IsForgottenByWhatMayChangeIt) {
  TestDriver& disk = graph->Add("disk", 8192, Unmapping());
  disk.block_status = [&disk](int64_t offset, int64_t) {
    return Extent(disk, offset, true);
  };
  Backend& user = graph->Open(disk);
  Child& root = user.root();
  int looked_up = 0;
  for (int step = 0; step < 5; ++step) {
    EXPECT_IO_OK(co_await root.Status(nullptr, 0, 100, true));
    EXPECT_EQ(disk.count(Op::kStatus), ++looked_up) << "step " << step;
    EXPECT_IO_OK(co_await root.Status(nullptr, 0, 100, true));
    EXPECT_EQ(disk.count(Op::kStatus), looked_up);
    if (step == 0) {
      EXPECT_IO_OK(co_await user.Zero(4096, 512));
    }
    if (step == 1) {
      EXPECT_IO_OK(co_await user.Discard(4096, 512));
    }
    if (step == 2) {
      EXPECT_IO_OK(co_await user.Truncate(4096, true));
    }
    if (step == 3) {
      disk.Fail(Op::kZero, EIO);
      EXPECT_IO_ERROR(co_await user.Zero(0, 512), EIO);
    }
  }
  std::string data = Fill('d', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_IO_OK(co_await root.Status(nullptr, 0, 100, true));
  EXPECT_EQ(disk.count(Op::kStatus), looked_up) << "a write leaves data";
}

// The answer was right when the driver looked, and no longer is.
ENGINE_TEST(StatusCache, AnswersThatAZeroRequestOvertookAreNotRemembered) {
  TestDriver& disk = graph->Add("disk", 8192);
  bool data = true;
  disk.block_status = [&](int64_t offset, int64_t) {
    return Extent(disk, offset, data);
  };
  Backend& user = graph->Open(disk);
  disk.Hold(Op::kStatus);
  auto status = Start(user.root().Status(nullptr, 0, 100, true));
  co_await Settle();
  EXPECT_IO_OK(co_await user.Zero(0, 8192));
  disk.Release(Op::kStatus);
  co_await Settle();
  EXPECT_TRUE(status->done());
  data = false;
  const auto again = co_await user.root().Status(nullptr, 0, 100, true);
  EXPECT_EQ(again->flags & BlockStatus::kZero, BlockStatus::kZero);
}

// -----------------------------------------------------------------------------

ENGINE_TEST(StatusOfChain, IsDecidedByTheFirstLayerThatDoes) {
  Chain chain(graph);
  Backend& user = graph->Open(chain.top, {kConsistentRead, kAllPermissions});
  const uint32_t zeros = BlockStatus::kZero;
  ExpectStatus(co_await user.Status(0, 10000), kData, 1000);
  ExpectStatus(co_await user.Status(1000, 9000), zeros, 500);
  ExpectStatus(co_await user.Status(1500, 8500), kData, 500);
  ExpectStatus(co_await user.Status(2000, 8000), kZeros, 1000);
  ExpectStatus(co_await user.Status(3000, 7000), kData, 1000);
  ExpectStatus(co_await user.Status(4000, 6000), zeros, 2000);
  // The middle layer ends here and hides what the base has.
  ExpectStatus(co_await user.Status(6000, 4000), kZeros, 3000);
  ExpectStatus(co_await user.Status(9000, 1000), kZeros | kEof, 1000);
}

ENGINE_TEST(StatusOfChain, Above) {
  Chain chain(graph);
  Backend& user = graph->Open(chain.top, {kConsistentRead, kAllPermissions});
  Child& root = user.root();
  const Node* base = &chain.base.node();
  ExpectStatus(co_await StatusAbove(root, base, nullptr, 0, 10000), kData,
               1000);
  ExpectStatus(co_await StatusAbove(root, base, nullptr, 1000, 9000), kNothing,
               1000);
  ExpectStatus(co_await StatusAbove(root, base, nullptr, 2000, 8000), kZeros,
               1000);
  ExpectStatus(co_await StatusAbove(root, base, nullptr, 3000, 7000), kNothing,
               3000);
  ExpectStatus(
      co_await StatusAbove(root, &chain.middle.node(), nullptr, 1000, 9000),
      kNothing, 8000);
}

}  // namespace
}  // namespace bgfs
