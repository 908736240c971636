// Padding to request_alignment: what is unaligned is read, merged and written
// under a claim of whole blocks (engine.md, 2.2 to 2.4).

#include <random>

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;

// The calls of a driver, without the windows it was asked for.
std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

ENGINE_TEST(Rmw, OnlyHeadAndTailAreReadAndMerged) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(512));
  disk.bytes() = Fill('o', 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 2000);
  EXPECT_IO_OK(co_await user.Write(1000, View(data)));
  EXPECT_EQ(disk.calls, Calls({{Op::kRead, 512, 512},
                               {Op::kWrite, 512, 512},
                               {Op::kWrite, 1024, 1536},
                               {Op::kRead, 2560, 512},
                               {Op::kWrite, 2560, 512}}));
  EXPECT_EQ(disk.calls[2].memory, &data[24]) << "the middle is not copied";
  EXPECT_EQ(disk.bytes(), Fill('o', 1000) + Fill('n', 2000) + Fill('o', 5192));
}

ENGINE_TEST(Rmw, ARequestInsideOneBlockIsOneMerge) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(4096));
  disk.bytes() = Fill('o', 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 10);
  EXPECT_IO_OK(co_await user.Write(4100, View(data)));
  EXPECT_EQ(disk.calls,
            Calls({{Op::kRead, 4096, 4096}, {Op::kWrite, 4096, 4096}}));
}

ENGINE_TEST(Rmw, UnalignedNeighboursBothSurvive) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(4096));
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 100);
  disk.Hold(Op::kRead);
  auto first = Start(user.Write(4096, View(data)));
  auto second = Start(user.Write(4196, View(data)));
  auto apart = Start(user.Write(0, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kRead), 2) << "the first and the one apart";
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(first->done() && second->done() && apart->done());
  EXPECT_EQ(disk.bytes().substr(4096, 300), Fill('n', 200) + Fill(0, 100));
}

ENGINE_TEST(Rmw, AnUnalignedWriteKeepsItsWholeBlocks) {
  TestDriver& disk = graph->Add("disk", 16384, Aligned(4096));
  Backend& user = graph->Open(disk);
  std::string odd = Fill('n', 100);
  std::string block = Fill('a', 4096);
  std::string seen = Fill('?', 4096);
  disk.Hold(Op::kRead);
  auto write = Start(user.Write(4196, View(odd)));
  auto aligned = Start(user.Write(4096, View(block)));
  auto read = Start(user.Read(4096, View(seen)));
  auto other = Start(user.Write(8192, View(block)));
  co_await Settle();
  EXPECT_TRUE(other->done()) << "another block";
  EXPECT_EQ(disk.waiting(Op::kRead), 1);
  EXPECT_EQ(disk.count(Op::kWrite), 1);
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(write->done() && aligned->done() && read->done());
  EXPECT_EQ(seen, block);
}

ENGINE_TEST(Rmw, AnUnalignedZeroKeepsItsWholeBlocks) {
  TestDriver& disk = graph->Add("disk", 16384, Aligned(4096));
  disk.bytes() = Fill('o', 16384);
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 100);
  disk.Hold(Op::kRead);
  auto zero = Start(user.Zero(100, 8192));
  auto write = Start(user.Write(0, View(data)));
  co_await Settle();
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(zero->done() && write->done());
  EXPECT_EQ(disk.bytes(), Fill('n', 100) + Fill(0, 8192) + Fill('o', 8092));
}

ENGINE_TEST(Rmw, AlignedRequestsTouchNoOtherBlock) {
  TestDriver& disk = graph->Add("disk", 16384, Aligned(4096));
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 8192);
  EXPECT_IO_OK(co_await user.Write(4096, View(data)));
  EXPECT_EQ(disk.calls, Calls({{Op::kWrite, 4096, 8192}}));
  EXPECT_EQ(disk.node().requests().serialising_count(), 0);
}

ENGINE_TEST(Rmw, ReadsArePaddedAndTheMiddleIsNotCopied) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(512));
  for (size_t i = 0; i < 8192; ++i) {
    disk.bytes()[i] = static_cast<char>(i * 7 % 251);
  }
  Backend& user = graph->Open(disk);
  std::string seen = Fill('?', 2000);
  EXPECT_IO_OK(co_await user.Read(1000, View(seen)));
  EXPECT_EQ(seen, disk.bytes().substr(1000, 2000));
  EXPECT_EQ(disk.calls, Calls({{Op::kRead, 512, 512},
                               {Op::kRead, 1024, 1536},
                               {Op::kRead, 2560, 512}}));
  EXPECT_EQ(disk.calls[1].memory, &seen[24]);
}

ENGINE_TEST(Rmw, MemoryThatDoesNotFitIsBounced) {
  Limits limits = Aligned(512);
  limits.min_memory_alignment = 512;
  TestDriver& disk = graph->Add("disk", 8192, limits);
  Backend& user = graph->Open(disk);
  alignas(16) static char memory[4096 + 1];
  std::fill(std::begin(memory), std::end(memory), 'm');
  // The driver of the tests checks what it is given.
  EXPECT_IO_OK(co_await user.Write(512, IoView(memory + 1, 4096)));
  EXPECT_EQ(disk.bytes().substr(512, 4096), Fill('m', 4096));
  std::fill(std::begin(memory), std::end(memory), '?');
  EXPECT_IO_OK(co_await user.Read(500, IoView(memory + 1, 4096)));
  EXPECT_EQ(std::string(memory + 1, 4096), Fill(0, 12) + Fill('m', 4084));
}

ENGINE_TEST(Rmw, DataInTooManyPiecesIsBounced) {
  Limits limits = Aligned(512);
  limits.max_iov = 4;
  TestDriver& disk = graph->Add("disk", 8192, limits);
  Backend& user = graph->Open(disk);
  std::string data = Fill('m', 4096);
  std::vector<iovec> pieces;
  pieces.reserve(16);
  for (size_t i = 0; i < 16; ++i) pieces.push_back({&data[256 * i], 256});
  EXPECT_IO_OK(co_await user.Write(1024, IoView(pieces)));
  EXPECT_EQ(disk.bytes().substr(1024, 4096), data);
  std::fill(data.begin(), data.end(), '?');
  EXPECT_IO_OK(co_await user.Read(1000, IoView(pieces)));
  EXPECT_EQ(data, Fill(0, 24) + Fill('m', 4072));
}

// The last block of a node whose size is no multiple of its alignment: seeded
// requests of every shape against a plain array, with bytes past the end that
// must never be seen.
Task<void> OddSizes(TestGraph* graph, int64_t alignment, int64_t size) {
  Limits limits = Aligned(alignment);
  limits.max_transfer = 2 * alignment;
  TestDriver& disk = graph->Add("odd", size, limits);
  disk.refused[Op::kZero] = size % 2 == 0;
  Backend& user = graph->Open(disk);
  std::string model = Fill(0, size);
  std::mt19937_64 random(static_cast<uint64_t>(size));
  for (int step = 0; step < 300; ++step) {
    const auto offset = static_cast<int64_t>(random() % model.size());
    const int64_t left = static_cast<int64_t>(model.size()) - offset;
    int64_t bytes = 1 + static_cast<int64_t>(random() % left);
    if (random() % 3 == 0) bytes = left;
    const auto at = static_cast<size_t>(offset);
    const auto count = static_cast<size_t>(bytes);
    std::string data = Fill(static_cast<char>('a' + step % 26), bytes);
    switch (random() % 4) {
      case 0:
        EXPECT_EQ(co_await ReadBytes(&user, offset, bytes),
                  model.substr(at, count));
        break;
      case 1:
        EXPECT_IO_OK(co_await user.Zero(offset, bytes));
        model.replace(at, count, count, 0);
        break;
      case 2:  // grows a little
        bytes += step % 5;
        data.resize(static_cast<size_t>(bytes), 'g');
        if (model.size() < at + data.size()) model.resize(at + data.size());
        [[fallthrough]];
      default:
        EXPECT_IO_OK(co_await user.Write(offset, View(data)));
        model.replace(at, data.size(), data);
    }
    EXPECT_EQ(disk.bytes(), model);
    if (disk.bytes() != model) co_return;
  }
}

ENGINE_TEST(Rmw, OddSizesAt512) { co_await OddSizes(graph, 512, 5001); }
ENGINE_TEST(Rmw, OddSizesAt512WithoutZero) {
  co_await OddSizes(graph, 512, 700);
}
ENGINE_TEST(Rmw, OddSizesAt4096) { co_await OddSizes(graph, 4096, 20001); }
ENGINE_TEST(Rmw, SmallerThanABlock) { co_await OddSizes(graph, 4096, 99); }

ENGINE_TEST(Rmw, AFailedMergeWritesNothing) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(512));
  Backend& user = graph->Open(disk);
  std::string data = Fill('n', 100);
  disk.Fail(Op::kRead, EIO);
  EXPECT_IO_ERROR(co_await user.Write(100, View(data)), EIO);
  EXPECT_EQ(disk.count(Op::kWrite), 0);
}

}  // namespace
}  // namespace bgfs
