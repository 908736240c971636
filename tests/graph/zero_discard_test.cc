// Zero and discard requests (engine.md, 2.5 and 2.6).

#include "graph/io.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

ENGINE_TEST(Zero, GoesInPiecesThatTheDriverDoesWell) {
  Limits limits;
  limits.pwrite_zeroes_alignment = 4096;
  limits.max_pwrite_zeroes = 10000;  // counts as 8192
  TestDriver& disk = graph->Add("disk", 65536, limits);
  disk.bytes() = Fill('o', 65536);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Zero(1000, 20000));
  EXPECT_EQ(disk.calls, Calls({{Op::kZero, 1000, 3096},
                               {Op::kZero, 4096, 8192},
                               {Op::kZero, 12288, 8192},
                               {Op::kZero, 20480, 520}}));
  EXPECT_EQ(disk.bytes(), Fill('o', 1000) + Fill(0, 20000) + Fill('o', 44536));
}

ENGINE_TEST(Zero, WhatIsSmallerThanABlockIsMerged) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(512));
  disk.bytes() = Fill('o', 8192);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Zero(1000, 2000));
  EXPECT_EQ(disk.calls, Calls({{Op::kRead, 512, 512},
                               {Op::kWrite, 512, 512},
                               {Op::kZero, 1024, 1536},
                               {Op::kRead, 2560, 512},
                               {Op::kWrite, 2560, 512}}));
  EXPECT_EQ(disk.bytes(), Fill('o', 1000) + Fill(0, 2000) + Fill('o', 5192));
}

ENGINE_TEST(Zero, TheEndOfAnOddNodeIsAsGoodAsAligned) {
  TestDriver& disk = graph->Add("disk", 1000, Aligned(512));
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Zero(512, 488));
  EXPECT_EQ(disk.calls, Calls({{Op::kZero, 512, 488}}));
}

ENGINE_TEST(Zero, FallsBackToBuffersOfABoundedSize) {
  constexpr int64_t kSize = 5 << 20;
  TestDriver& disk = graph->Add("disk", kSize);
  disk.bytes() = Fill('o', kSize);
  disk.refused[Op::kZero] = true;
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Zero(100, kSize - 200));
  int64_t written = 0;
  for (const Call& call : disk.calls) {
    if (call.op != Op::kWrite) continue;
    EXPECT_LE(call.bytes, int64_t{1} << 20);
    written += call.bytes;
  }
  EXPECT_EQ(written, kSize - 200);
  EXPECT_EQ(disk.bytes(),
            Fill('o', 100) + Fill(0, kSize - 200) + Fill('o', 100));
}

ENGINE_TEST(Zero, TheFallbackKeepsToTheLargestTransfer) {
  Limits limits;
  limits.max_transfer = 1024;
  TestDriver& disk = graph->Add("disk", 8192, limits);
  disk.bytes() = Fill('o', 8192);
  disk.refused[Op::kZero] = true;
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Zero(0, 8192));
  EXPECT_EQ(disk.count(Op::kWrite), 8);
  EXPECT_EQ(disk.bytes(), Fill(0, 8192));
}

ENGINE_TEST(Zero, OnlyOnePieceMayBeRefused) {
  Limits limits;
  limits.max_pwrite_zeroes = 1024;
  TestDriver& disk = graph->Add("disk", 4096, limits);
  disk.bytes() = Fill('o', 4096);
  Backend& user = graph->Open(disk);
  disk.Fail(Op::kZero, ENOTSUP, 1, 1);
  EXPECT_IO_OK(co_await user.Zero(0, 4096));
  EXPECT_EQ(disk.count(Op::kZero), 4);
  EXPECT_EQ(disk.count(Op::kWrite), 1);
  EXPECT_EQ(disk.bytes(), Fill(0, 4096));
}

ENGINE_TEST(Zero, AnyOtherErrorIsOne) {
  Limits limits;
  limits.max_pwrite_zeroes = 1024;
  TestDriver& disk = graph->Add("disk", 4096, limits);
  Backend& user = graph->Open(disk);
  disk.Fail(Op::kZero, ENOSPC, 1, 1);
  EXPECT_IO_ERROR(co_await user.Zero(0, 4096), ENOSPC);
  EXPECT_EQ(disk.count(Op::kZero), 2);
  EXPECT_EQ(disk.count(Op::kWrite), 0);
}

ENGINE_TEST(Zero, FreesSpaceOnlyWhereDiscardIsUnmap) {
  TestDriver& keeps = graph->Add("keeps", 4096);
  TestDriver& unmaps = graph->Add("unmaps", 4096, Unmapping());
  for (TestDriver* disk : {&keeps, &unmaps}) {
    Backend& user = graph->Open(*disk);
    EXPECT_IO_OK(co_await user.Zero(0, 512, kMayUnmap));
    EXPECT_IO_OK(co_await user.Zero(0, 512));
  }
  EXPECT_EQ(keeps.calls[0].flags, 0U);
  EXPECT_EQ(unmaps.calls[0].flags, kMayUnmap);
  EXPECT_EQ(unmaps.calls[1].flags, 0U) << "only when asked to";
}

// --- Discard ----------------------------------------------------------------

// --- Detecting zeros in writes -----------------------------------------------

NodeOptions Detecting(DetectZeroes detect, bool unmap = true) {
  NodeOptions options;
  options.detect_zeroes = detect;
  options.unmap = unmap;
  return options;
}

ENGINE_TEST(DetectZeroes, MakesAWriteOfZerosAZeroRequest) {
  TestDriver& off = graph->Add("off", 8192);
  TestDriver& on = graph->Add("on", 8192, Detecting(DetectZeroes::kOn));
  std::string zeros = Fill(0, 4096);
  std::string data = zeros;
  data[4095] = 1;
  std::vector<iovec> pieces = {{&zeros[0], 1000}, {&data[0], 3096}};
  for (TestDriver* disk : {&off, &on}) {
    disk->bytes() = Fill('o', 8192);
    Backend& user = graph->Open(*disk);
    EXPECT_IO_OK(co_await user.Write(0, View(zeros)));
    EXPECT_IO_OK(co_await user.Write(4096, IoView(pieces)));
    EXPECT_EQ(disk->bytes(), Fill(0, 8192));
    EXPECT_IO_OK(co_await user.Write(0, View(data)));
    EXPECT_EQ(disk->bytes().substr(0, 4096), data);
  }
  EXPECT_EQ(off.count(Op::kZero), 0);
  EXPECT_EQ(on.count(Op::kZero), 2);
  EXPECT_EQ(on.count(Op::kWrite), 1);
  EXPECT_EQ(on.calls[0].flags, 0U) << "the space is kept";
}

ENGINE_TEST(DetectZeroes, UnmapFreesWhereTheNodeDoes) {
  TestDriver& frees =
      graph->Add("frees", 4096, Detecting(DetectZeroes::kUnmap));
  TestDriver& keeps =
      graph->Add("keeps", 4096, Detecting(DetectZeroes::kUnmap, false));
  std::string zeros = Fill(0, 4096);
  for (TestDriver* disk : {&frees, &keeps}) {
    EXPECT_IO_OK(co_await graph->Open(*disk).Write(0, View(zeros)));
  }
  EXPECT_EQ(frees.calls[0].flags, kMayUnmap);
  EXPECT_EQ(keeps.calls[0].flags, 0U);
}

ENGINE_TEST(DetectZeroes, KeepsTheOtherFlags) {
  TestDriver& disk = graph->Add("disk", 4096, Detecting(DetectZeroes::kOn));
  std::string zeros = Fill(0, 512);
  EXPECT_IO_OK(co_await graph->Open(disk).Write(0, View(zeros), kFua));
  EXPECT_EQ(disk.count(Op::kZero), 1);
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
}

// The driver cannot be handed the client's memory: it may be zero no more.
ENGINE_TEST(DetectZeroes, ReadsTheClientsMemoryOnce) {
  TestDriver& disk = graph->Add("disk", 4096, Detecting(DetectZeroes::kOn));
  disk.bytes() = Fill('o', 4096);
  disk.refused[Op::kZero] = true;
  disk.Hold(Op::kZero);
  std::string memory = Fill(0, 512);
  auto write = Start(graph->Open(disk).Write(0, View(memory)));
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kZero), 1);
  memory = Fill('x', 512);
  disk.Release(Op::kZero);
  co_await Settle();
  EXPECT_TRUE(write->done());
  EXPECT_EQ(disk.bytes().substr(0, 512), Fill(0, 512));
}

// -----------------------------------------------------------------------------

ENGINE_TEST(Discard, IsDroppedUnlessTheNodeUnmaps) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Discard(0, 4096));
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_EQ(disk.windows_asked, 0);
}

ENGINE_TEST(Discard, UnalignedHeadAndTailGoOnTheirOwn) {
  Limits limits;
  limits.pdiscard_alignment = 4096;
  limits.max_pdiscard = 8192;
  TestDriver& disk = graph->Add("disk", 65536, limits, Unmapping());
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Discard(1000, 20000));
  EXPECT_EQ(disk.calls, Calls({{Op::kDiscard, 1000, 3096},
                               {Op::kDiscard, 4096, 8192},
                               {Op::kDiscard, 12288, 8192},
                               {Op::kDiscard, 20480, 520}}));
}

ENGINE_TEST(Discard, ADriverThatCannotIsNoError) {
  Limits limits;
  limits.max_pdiscard = 1024;
  TestDriver& disk = graph->Add("disk", 4096, limits, Unmapping());
  Backend& user = graph->Open(disk);
  disk.Fail(Op::kDiscard, ENOTSUP, 1);
  EXPECT_IO_OK(co_await user.Discard(0, 4096));
  EXPECT_EQ(disk.count(Op::kDiscard), 4);
  disk.Fail(Op::kDiscard, EIO, 1);
  EXPECT_IO_ERROR(co_await user.Discard(0, 4096), EIO);
}

ENGINE_TEST(Discard, WhatLiesPastTheEndIsLeftOut) {
  TestDriver& disk = graph->Add("disk", 4096, Unmapping());
  Backend& user = graph->Open(disk);
  disk.window = [](const Request& request) {
    EXPECT_LE(request.range().end(), 4096);
    return Range{};
  };
  EXPECT_IO_OK(co_await user.Discard(3000, 4096));
  EXPECT_EQ(disk.calls, Calls({{Op::kDiscard, 3000, 1096}}));
  EXPECT_IO_OK(co_await user.Discard(5000, 4096));
  EXPECT_EQ(disk.calls.size(), 1U);
}

}  // namespace
}  // namespace bgfs
