// Reads and writes: what is refused, splitting, growing (engine.md, 2.2 to
// 2.4, 2.11).

#include <limits>

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
constexpr PermissionSet kNoResize = {kConsistentRead | kWrite, kAllPermissions};
constexpr PermissionSet kReader = {kConsistentRead, kAllPermissions};

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

// --- Refused before anything happens ----------------------------------------

ENGINE_TEST(Refused, NegativeAndOverflowingRanges) {
  TestDriver& disk = graph->Add("disk", 4096, Unmapping());
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  for (int64_t offset : {int64_t{-1}, -kHuge, kHuge - 100}) {
    EXPECT_IO_ERROR(co_await user.Read(offset, View(data)), EIO);
    EXPECT_IO_ERROR(co_await user.Write(offset, View(data)), EIO);
    EXPECT_IO_ERROR(co_await user.Zero(offset, 512), EIO);
    EXPECT_IO_ERROR(co_await user.Discard(offset, 512), EIO);
    EXPECT_IO_ERROR(co_await user.Reserve(offset, 512), EIO);
    EXPECT_IO_ERROR(co_await user.Status(offset, 512), EIO);
  }
  EXPECT_IO_ERROR(co_await user.Zero(0, -1), EIO);
  EXPECT_IO_ERROR(co_await user.Discard(0, -1), EIO);
  EXPECT_IO_ERROR(co_await user.Status(0, -1), EIO);
  EXPECT_IO_ERROR(co_await user.Truncate(-1, true), EINVAL);
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_EQ(disk.windows_asked, 0);
}

ENGINE_TEST(Refused, PastTheEnd) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk, kNoResize);
  std::string data = Fill('a', 512);
  EXPECT_IO_ERROR(co_await user.Read(4000, View(data)), EIO);
  EXPECT_IO_ERROR(co_await user.Read(4096, View(data)), EIO);
  EXPECT_IO_ERROR(co_await user.Write(4000, View(data)), EIO);
  EXPECT_IO_ERROR(co_await user.Zero(4000, 512), EIO);
  EXPECT_IO_ERROR(co_await user.Zero(0, kHuge), EIO);
  EXPECT_IO_ERROR(co_await user.Reserve(4000, 512), EIO);
  EXPECT_IO_ERROR(co_await user.Truncate(8192, true), EPERM);
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_EQ(disk.windows_asked, 0);
}

ENGINE_TEST(Refused, WritesWithoutTheRight) {
  TestDriver& disk = graph->Add("disk", 4096, Unmapping());
  Backend& user = graph->Open(disk, kReader);
  std::string data = Fill('a', 512);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data)), EPERM);
  EXPECT_IO_ERROR(co_await user.Zero(0, 512), EPERM);
  EXPECT_IO_ERROR(co_await user.Discard(0, 512), EPERM);
  EXPECT_IO_ERROR(co_await user.Reserve(0, 512), EPERM);
  EXPECT_IO_ERROR(co_await user.Truncate(0, true), EPERM);
  EXPECT_TRUE(disk.calls.empty());
}

ENGINE_TEST(Refused, WritesToAReadOnlyNode) {
  NodeOptions options;
  options.read_only = true;
  TestDriver& disk = graph->Add("disk", 4096, options);
  Backend& user = graph->Open(disk, kReader);
  std::string data = Fill('a', 512);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data)), EPERM);
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  // Also along an edge that may write what is there already.
  Backend& copier =
      graph->Open(disk, {kConsistentRead | kWriteUnchanged, kAllPermissions});
  EXPECT_IO_ERROR(co_await copier.Write(0, View(data), kUnchanged), EPERM);
  EXPECT_IO_ERROR(co_await copier.Zero(0, 512, kUnchanged), EPERM);
  EXPECT_EQ(disk.count(Op::kWrite) + disk.count(Op::kZero), 0);
}

ENGINE_TEST(Refused, EmptyRequestsSucceedAndTouchNothing) {
  TestDriver& disk = graph->Add("disk", 4096, Unmapping());
  Backend& user = graph->Open(disk);
  for (int64_t offset : {int64_t{0}, int64_t{4096}, int64_t{100000}, kHuge}) {
    EXPECT_IO_OK(co_await user.Read(offset, IoView()));
    EXPECT_IO_OK(co_await user.Write(offset, IoView()));
    EXPECT_IO_OK(co_await user.Zero(offset, 0));
    EXPECT_IO_OK(co_await user.Discard(offset, 0));
    EXPECT_IO_OK(co_await user.Reserve(offset, 0));
    EXPECT_IO_OK(co_await user.Status(offset, 0));
  }
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_EQ(disk.windows_asked, 0);
  EXPECT_EQ(disk.node().write_generation(), 1);
}

// --- Reading past the end of a layer ----------------------------------------

ENGINE_TEST(Read, PastTheEndOfABackingLayerGivesZeros) {
  TestDriver& base = graph->Add("base", 1000, Aligned(512));
  base.bytes() = Fill('b', 1000);
  TestDriver& top = graph->Add("top", 4096);
  Child& backing = graph->Attach(top, "backing", ChildRole::kBacking, base);
  std::string seen = Fill('?', 2048);
  EXPECT_IO_OK(co_await backing.Read(nullptr, 0, View(seen)));
  EXPECT_EQ(seen, Fill('b', 1000) + Fill(0, 1048));
  std::fill(seen.begin(), seen.end(), '?');
  EXPECT_IO_OK(co_await backing.Read(nullptr, 1000, View(seen)));
  EXPECT_EQ(seen, Fill(0, 2048));
}

// --- Splitting --------------------------------------------------------------

ENGINE_TEST(Split, AtTheLargestTransfer) {
  Limits limits = Aligned(512);
  limits.max_transfer = 1100;  // counts as 1024
  TestDriver& disk = graph->Add("disk", 8192, limits);
  Backend& user = graph->Open(disk);
  const std::string written =
      Fill('a', 1024) + Fill('b', 1024) + Fill('c', 512);
  std::string data = written;
  EXPECT_IO_OK(co_await user.Write(512, View(data)));
  EXPECT_EQ(disk.bytes().substr(512, 2560), written);
  data = Fill('?', 2560);
  EXPECT_IO_OK(co_await user.Read(512, View(data)));
  EXPECT_EQ(data, written);
  EXPECT_EQ(disk.calls, Calls({{Op::kWrite, 512, 1024},
                               {Op::kWrite, 1536, 1024},
                               {Op::kWrite, 2560, 512},
                               {Op::kRead, 512, 1024},
                               {Op::kRead, 1536, 1024},
                               {Op::kRead, 2560, 512}}));
}

ENGINE_TEST(Split, IsOneTrackedRequest) {
  Limits limits;
  limits.max_transfer = 1024;
  TestDriver& disk = graph->Add("disk", 8192, limits);
  disk.window = [](const Request& request) { return request.range(); };
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 2048);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(0, View(data)));
  auto second = Start(user.Write(1024, View(data)));
  co_await Settle();
  disk.ReleaseOne(Op::kWrite);
  co_await Settle();
  EXPECT_EQ(disk.count(Op::kWrite), 2);
  EXPECT_EQ(disk.calls[0].request, disk.calls[1].request);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done() && second->done());
}

ENGINE_TEST(Split, StopsAtTheFirstPieceThatFails) {
  Limits limits;
  limits.max_transfer = 1024;
  TestDriver& disk = graph->Add("disk", 8192, limits);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 4096);
  disk.Fail(Op::kWrite, ENOSPC, 1, 1);
  disk.Fail(Op::kRead, EIO, 1, 1);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data)), ENOSPC);
  EXPECT_IO_ERROR(co_await user.Read(0, View(data)), EIO);
  EXPECT_EQ(disk.count(Op::kWrite), 2);
  EXPECT_EQ(disk.count(Op::kRead), 2);
}

ENGINE_TEST(Limits, TransferAndMemoryComeFromTheChildren) {
  Limits own = Aligned(512);
  own.max_transfer = 65536;
  own.opt_transfer = 4096;
  own.max_hw_transfer = 131072;
  own.min_memory_alignment = 512;
  own.opt_memory_alignment = 8192;
  own.max_iov = 16;
  own.max_hw_iov = 8;
  own.max_pdiscard = 1024;
  own.pdiscard_alignment = 512;
  own.max_pwrite_zeroes = 1024;
  own.pwrite_zeroes_alignment = 512;
  TestDriver& disk = graph->Add("disk", 8192, own);
  TestDriver& other = graph->Add("other", 8192);
  other.wanted_limits.max_transfer = 32768;
  other.node().RefreshLimits();

  struct Plain : TestDriver {
    using TestDriver::TestDriver;
    void RefreshLimits(Limits*) override {}
  };
  auto owned = std::make_unique<Plain>(8192);
  Plain& top = *owned;
  graph->AddNode("top", 8192, std::move(owned));
  graph->Attach(top, "file", ChildRole::kFile, disk);
  graph->Attach(top, "backing", ChildRole::kBacking, other);
  const Limits& merged = top.node().limits();
  EXPECT_EQ(merged.max_transfer, 32768) << "the smallest";
  EXPECT_EQ(merged.max_hw_transfer, 131072) << "0 is no limit";
  EXPECT_EQ(merged.opt_transfer, 4096);
  EXPECT_EQ(merged.min_memory_alignment, 512);
  EXPECT_EQ(merged.opt_memory_alignment, 8192);
  EXPECT_EQ(merged.max_iov, 16);
  EXPECT_EQ(merged.max_hw_iov, 8);
  // A format takes any alignment; its child does the read-modify-write.
  EXPECT_EQ(merged.request_alignment, 1);
  EXPECT_EQ(merged.max_pdiscard, 0);
  EXPECT_EQ(merged.pdiscard_alignment, 0);
  EXPECT_EQ(merged.max_pwrite_zeroes, 0);
  EXPECT_EQ(merged.pwrite_zeroes_alignment, 0);
  co_return;
}

// --- Bookkeeping ------------------------------------------------------------

ENGINE_TEST(Books, EveryChangeCountsAlsoAFailedOne) {
  TestDriver& disk = graph->Add("disk", 4096, Unmapping());
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  int64_t generation = disk.node().write_generation();
  const auto expect_counted = [&](const char* what) {
    EXPECT_GT(disk.node().write_generation(), generation) << what;
    generation = disk.node().write_generation();
  };
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  expect_counted("write");
  EXPECT_IO_OK(co_await user.Zero(0, 512));
  expect_counted("zero");
  EXPECT_IO_OK(co_await user.Discard(0, 512));
  expect_counted("discard");
  EXPECT_IO_OK(co_await user.Reserve(0, 512));
  expect_counted("reserve");
  EXPECT_IO_OK(co_await user.Truncate(8192, true));
  expect_counted("truncate");
  disk.Fail(Op::kWrite, EIO);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data)), EIO);
  expect_counted("failed write");
  disk.Fail(Op::kZero, EIO);
  EXPECT_IO_ERROR(co_await user.Zero(0, 512), EIO);
  expect_counted("failed zero");
  disk.Fail(Op::kDiscard, EIO);
  EXPECT_IO_ERROR(co_await user.Discard(0, 512), EIO);
  expect_counted("failed discard");
  disk.Fail(Op::kReserve, EIO);
  EXPECT_IO_ERROR(co_await user.Reserve(0, 512), EIO);
  expect_counted("failed reserve");
  disk.Fail(Op::kTruncate, EIO);
  EXPECT_IO_ERROR(co_await user.Truncate(0, true), EIO);
  expect_counted("failed truncate");
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(disk.node().write_generation(), generation);
}

}  // namespace
}  // namespace bgfs
