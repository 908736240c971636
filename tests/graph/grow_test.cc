// Extending writes and truncates (engine.md, 2.2, 2.4, 2.8): what is added
// reads as zeros, and what fails leaves nothing that can be seen.

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

// --- Writes past the end ----------------------------------------------------

ENGINE_TEST(ExtendingWrite, GrowsTheNodeAndZeroesTheGap) {
  TestDriver& disk = graph->Add("disk", 1000);
  disk.bytes() = Fill('o', 1000);
  Backend& user = graph->Open(disk);
  int resizes = 0;
  user.SetOnResize([&resizes] { ++resizes; });
  std::string data = Fill('n', 500);
  EXPECT_IO_OK(co_await user.Write(1200, View(data)));
  EXPECT_EQ(user.size(), 1700);
  EXPECT_EQ(co_await ReadBytes(&user, 0, 1700),
            Fill('o', 1000) + Fill(0, 200) + Fill('n', 500));
  EXPECT_GE(resizes, 1) << "exports learn the size";
}

ENGINE_TEST(ExtendingWrite, ParentsLearnTheSize) {
  TestDriver& disk = graph->Add("disk", 1000);
  TestDriver& format = graph->Add("format", 1000);
  Child& file = graph->Attach(format, "file", ChildRole::kFile, disk);
  std::string data = Fill('n', 500);
  EXPECT_IO_OK(co_await file.Write(nullptr, 1000, View(data)));
  EXPECT_EQ(format.children_resized, 1);
  EXPECT_EQ(file.size(), 1500);
}

ENGINE_TEST(ExtendingWrite, ClaimsAllFromTheOldEnd) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(8192, View(data)));
  auto gap = Start(user.Write(5000, View(data)));
  auto beyond = Start(user.Write(100000, View(data)));
  std::string seen = Fill('?', 512);
  auto before = Start(user.Read(3584, View(seen)));
  co_await Settle();
  EXPECT_TRUE(before->done()) << "what lies before the old end is free";
  EXPECT_EQ(disk.waiting(Op::kWrite), 1);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done() && gap->done() && beyond->done());
  EXPECT_EQ(disk.bytes(), Fill(0, 5000) + Fill('n', 512) + Fill(0, 2680) +
                              Fill('n', 512) + Fill(0, 91296) + Fill('n', 512));
}

ENGINE_TEST(ExtendingWrite, ThatFailsLeavesNothing) {
  TestDriver& disk = graph->Add("disk", 1000);
  disk.bytes() = Fill('o', 1000);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 500);
  disk.Fail(Op::kWrite, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Write(900, View(data)), ENOSPC);
  EXPECT_EQ(user.size(), 1000);
  disk.Fail(Op::kWrite, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Write(1200, View(data)), ENOSPC);
  EXPECT_EQ(user.size(), 1000);
  // Half of each was written. A later growth shows none of it.
  EXPECT_IO_OK(co_await user.Truncate(2000, true));
  EXPECT_EQ(co_await ReadBytes(&user, 1000, 1000), Fill(0, 1000));
}

ENGINE_TEST(ExtendingWrite, ThatCannotBeUndoneIsUndoneLater) {
  TestDriver& disk = graph->Add("disk", 1000);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 500);
  disk.Fail(Op::kWrite, EIO);
  disk.Fail(Op::kTruncate, EIO, 2);
  EXPECT_IO_ERROR(co_await user.Write(1000, View(data)), EIO);
  EXPECT_EQ(user.size(), 1000);
  // The leftovers cannot be taken away yet, so nothing may grow over them.
  std::string one = "1";
  EXPECT_IO_ERROR(co_await user.Write(1000, View(one)), EIO);
  EXPECT_IO_OK(co_await user.Write(1000, View(one)));
  EXPECT_IO_OK(co_await user.Truncate(1100, true));
  EXPECT_EQ(co_await ReadBytes(&user, 1000, 100), "1" + Fill(0, 99));
}

ENGINE_TEST(ExtendingWrite, GoesOnWhenThereIsSpaceAgain) {
  TestDriver& disk = graph->Add("disk", 1000);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 500);
  disk.Fail(Op::kTruncate, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Write(1200, View(data)), ENOSPC);
  EXPECT_EQ(user.size(), 1000);
  EXPECT_EQ(disk.count(Op::kWrite), 0) << "no data without its gap";
  EXPECT_IO_OK(co_await user.Write(1200, View(data)));
  EXPECT_EQ(user.size(), 1700);
}

ENGINE_TEST(ExtendingWrite, StopsWhereRoundingUpWouldOverflow) {
  TestDriver& disk = graph->Add("disk", 1000, Aligned(512));
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 100);
  for (const int64_t end : {Range::kToInfinity, kMaxNodeBytes + 1}) {
    EXPECT_IO_ERROR(co_await user.Write(end - 100, View(data)), EFBIG);
    EXPECT_IO_ERROR(co_await user.Zero(end - 100, 100), EFBIG);
    EXPECT_IO_ERROR(co_await user.Truncate(end, true), EFBIG);
  }
  EXPECT_EQ(user.size(), 1000);
  EXPECT_EQ(disk.calls.size(), 0U);
}

ENGINE_TEST(ExtendingWrite, ZeroGrowsLast) {
  TestDriver& disk = graph->Add("disk", 1000);
  disk.bytes() = Fill('o', 1000);
  Backend& user = graph->Open(disk);
  disk.Fail(Op::kZero, EIO);
  EXPECT_IO_ERROR(co_await user.Zero(900, 500), EIO);
  EXPECT_EQ(user.size(), 1000);
  EXPECT_IO_OK(co_await user.Zero(900, 500));
  EXPECT_EQ(user.size(), 1400);
  EXPECT_EQ(disk.bytes(), Fill('o', 900) + Fill(0, 500));
  EXPECT_IO_OK(co_await user.Zero(2000, 500));
  EXPECT_EQ(disk.bytes(), Fill('o', 900) + Fill(0, 1600));
}

ENGINE_TEST(ExtendingWrite, UnalignedAtTheEndOfAnOddNode) {
  TestDriver& disk = graph->Add("disk", 1000, Aligned(512));
  disk.bytes() = Fill('o', 1000);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 700);
  EXPECT_IO_OK(co_await user.Write(990, View(data)));
  EXPECT_EQ(disk.bytes(), Fill('o', 990) + Fill('n', 700));
  EXPECT_IO_OK(co_await user.Write(1801, View(data)));
  EXPECT_EQ(disk.bytes(),
            Fill('o', 990) + Fill('n', 700) + Fill(0, 111) + Fill('n', 700));
}

// --- Truncate ----------------------------------------------------------------

ENGINE_TEST(Truncate, SetsTheSize) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  int resizes = 0;
  user.SetOnResize([&resizes] { ++resizes; });
  EXPECT_IO_OK(co_await user.Truncate(100, true));
  EXPECT_EQ(user.size(), 100);
  EXPECT_IO_OK(co_await user.Truncate(5000, true));
  EXPECT_EQ(user.size(), 5000);
  EXPECT_EQ(resizes, 2);
  disk.Fail(Op::kTruncate, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Truncate(9000, true), ENOSPC);
  EXPECT_EQ(user.size(), 5000);
  disk.Fail(Op::kTruncate, EIO);
  EXPECT_IO_ERROR(co_await user.Truncate(10, true), EIO);
  EXPECT_EQ(user.size(), 5000);
}

ENGINE_TEST(Truncate, AtLeastLeavesALargerNodeAlone) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Truncate(100, /*exact=*/false));
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_IO_OK(co_await user.Truncate(8192, /*exact=*/false));
  EXPECT_EQ(user.size(), 8192);
}

ENGINE_TEST(Truncate, AtLeastIsNotDecidedByAGrowthThatIsUndone) {
  TestDriver& base = graph->Add("base", 8192);
  TestDriver& disk = graph->Add("disk", 4096);
  graph->Attach(disk, "backing", ChildRole::kBacking, base);
  Backend& user = graph->Open(disk);
  disk.Hold(Op::kZero);
  disk.Fail(Op::kZero, EIO);
  auto first = Start(user.Truncate(8192, true));
  co_await Settle();
  auto second = Start(user.Truncate(6000, /*exact=*/false));
  co_await Settle();
  EXPECT_FALSE(second->done());
  disk.Release(Op::kZero);
  co_await Settle();
  EXPECT_IO_ERROR(first->result(), EIO);
  EXPECT_IO_OK(second->result());
  EXPECT_EQ(user.size(), 6000);
}

ENGINE_TEST(Truncate, OnlyGrowsWithPreallocation) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  for (auto mode : {Preallocation::kMetadata, Preallocation::kFalloc,
                    Preallocation::kFull}) {
    EXPECT_IO_ERROR(co_await user.Truncate(100, true, mode), EINVAL);
  }
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_IO_OK(co_await user.Truncate(8192, true, Preallocation::kFull));
  EXPECT_EQ(disk.preallocation, Preallocation::kFull);
}

ENGINE_TEST(Truncate, ClaimsFromTheSmallerEnd) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 512);
  disk.Hold(Op::kTruncate);
  auto shrink = Start(user.Truncate(4096, true));
  auto before = Start(user.Write(3584, View(data)));
  auto after = Start(user.Write(4096, View(data)));
  co_await Settle();
  EXPECT_TRUE(before->done());
  EXPECT_FALSE(after->done());
  disk.ReleaseOne(Op::kTruncate);
  co_await Settle();
  EXPECT_TRUE(shrink->done() && after->done());
  EXPECT_EQ(user.size(), 4608);

  disk.Hold(Op::kTruncate);
  auto grow = Start(user.Truncate(8192, true));
  auto tail = Start(user.Write(4096, View(data)));
  auto added = Start(user.Write(6000, View(data)));
  co_await Settle();
  EXPECT_TRUE(tail->done());
  EXPECT_FALSE(added->done());
  disk.Release(Op::kTruncate);
  co_await Settle();
  EXPECT_TRUE(grow->done() && added->done());
  EXPECT_EQ(user.size(), 8192);
}

ENGINE_TEST(Truncate, ClaimsAnewWhenTheNodeShrankMeanwhile) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  disk.Hold(Op::kTruncate);
  auto shrink = Start(user.Truncate(2048, true));
  auto grow = Start(user.Truncate(8192, true));
  co_await Settle();
  disk.ReleaseOne(Op::kTruncate);
  co_await Settle();
  EXPECT_TRUE(shrink->done());
  EXPECT_EQ(user.size(), 2048);
  EXPECT_EQ(disk.waiting(Op::kTruncate), 1);
  EXPECT_TRUE(disk.calls.back().request->claim().offset <= 2048)
      << "it now grows from 2048 on";
  disk.Release(Op::kTruncate);
  co_await Settle();
  EXPECT_TRUE(grow->done());
  EXPECT_EQ(user.size(), 8192);
}

ENGINE_TEST(Truncate, KeepsItsPlaceBehindAppends) {
  TestDriver& disk = graph->Add("disk", 1000);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 100);
  disk.Hold(Op::kWrite);
  auto append = Start(user.Write(1000, View(data)));
  auto truncate = Start(user.Truncate(500, true));
  auto late = Start(user.Write(1100, View(data)));
  co_await Settle();
  disk.ReleaseOne(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(append->done());
  EXPECT_TRUE(truncate->done()) << "the size changed, and it is still first";
  EXPECT_FALSE(late->done());
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(late->done());
}

ENGINE_TEST(Truncate, ALongerBackingLayerDoesNotShow) {
  TestDriver& base = graph->Add("base", 8192);
  base.bytes() = Fill('b', 8192);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "backing", ChildRole::kBacking, base);
  Backend& user = graph->Open(top);
  EXPECT_IO_OK(co_await user.Truncate(6000, true));
  EXPECT_EQ(top.calls,
            Calls({{Op::kTruncate, 6000, 0}, {Op::kZero, 4096, 1904}}));
  EXPECT_EQ(top.calls.back().flags, 0U) << "zeros that stay";
  top.calls.clear();
  std::string data = Fill('n', 100);
  EXPECT_IO_OK(co_await user.Write(7000, View(data)));
  EXPECT_EQ(top.calls, Calls({{Op::kTruncate, 7000, 0},
                              {Op::kZero, 6000, 1000},
                              {Op::kWrite, 7000, 100}}));
  top.calls.clear();
  EXPECT_IO_OK(co_await user.Truncate(9000, true));
  EXPECT_EQ(top.calls,
            Calls({{Op::kTruncate, 9000, 0}, {Op::kZero, 7100, 1092}}))
      << "as far as the backing layer goes";
}

ENGINE_TEST(Truncate, HidesALongerBackingLayerWhereTheDriverHasNoZeros) {
  TestDriver& base = graph->Add("base", 8192);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "backing", ChildRole::kBacking, base);
  top.refused[Op::kZero] = true;
  Backend& user = graph->Open(top);
  EXPECT_IO_OK(co_await user.Truncate(6000, true));
  EXPECT_EQ(top.calls.back(), (Call{Op::kWrite, 4096, 1904}));
  // Who wants no zeros written does not get the new area either.
  EXPECT_IO_ERROR(co_await user.Zero(6000, 1000, kNoFallback), ENOTSUP);
  EXPECT_EQ(user.size(), 6000);
  EXPECT_EQ(top.bytes().size(), 6000U);
}

ENGINE_TEST(Truncate, ThatCannotHideTheBackingLayerFails) {
  TestDriver& base = graph->Add("base", 8192);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "backing", ChildRole::kBacking, base);
  Backend& user = graph->Open(top);
  top.Fail(Op::kZero, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Truncate(6000, true), ENOSPC);
  EXPECT_EQ(user.size(), 4096);
  EXPECT_EQ(top.bytes().size(), 4096U);
}

ENGINE_TEST(Truncate, AGrowthThatFailsHalfWayIsUndone) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  disk.truncates_exactly = false;
  disk.Fail(Op::kTruncate, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Truncate(8192, true), ENOSPC);
  EXPECT_EQ(user.size(), 4096);
  EXPECT_EQ(disk.bytes().size(), 4096U);
}

}  // namespace
}  // namespace bgfs
