// Flush (engine.md, 2.7).

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;
using Flushes = std::vector<std::shared_ptr<Started<IoStatus>>>;

Flushes StartFlushes(Backend* user, int count) {
  Flushes flushes;
  for (int i = 0; i < count; ++i) flushes.push_back(Start(user->Flush()));
  return flushes;
}

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

ENGINE_TEST(Flush, OwnCachesThenTheDiskThenTheChildren) {
  TestDriver& file = graph->Add("file", 4096);
  TestDriver& base = graph->Add("base", 4096);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "file", ChildRole::kFile, file);
  graph->Attach(top, "backing", ChildRole::kBacking, base);
  Backend& user = graph->Open(top);
  top.Hold(Op::kFlushToOs);
  top.Hold(Op::kFlushToDisk);
  auto flush = Start(user.Flush());
  co_await Settle();
  EXPECT_EQ(top.calls, Calls({{Op::kFlushToOs}}));
  top.Release(Op::kFlushToOs);
  co_await Settle();
  EXPECT_EQ(top.calls, Calls({{Op::kFlushToOs}, {Op::kFlushToDisk}}));
  EXPECT_TRUE(file.calls.empty()) << "the child comes last";
  top.Release(Op::kFlushToDisk);
  co_await Settle();
  EXPECT_IO_OK(flush->result());
  EXPECT_EQ(file.calls, Calls({{Op::kFlushToOs}, {Op::kFlushToDisk}}));
  EXPECT_TRUE(base.calls.empty()) << "nothing was written through it";
}

ENGINE_TEST(Flush, ANodeIsBornWithSomethingToFlush) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
}

ENGINE_TEST(Flush, WithNothingNewSkipsOnlyTheNodesOwnDisk) {
  TestDriver& file = graph->Add("file", 4096);
  TestDriver& top = graph->Add("top", 4096);
  Child& edge = graph->Attach(top, "file", ChildRole::kFile, file);
  Backend& user = graph->Open(top);
  EXPECT_IO_OK(co_await user.Flush());
  top.calls.clear();
  file.calls.clear();
  // The driver writes below of its own accord.
  std::string data = Fill('m', 512);
  EXPECT_IO_OK(co_await edge.Write(nullptr, 0, View(data)));
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(top.calls, Calls({{Op::kFlushToOs}}));
  EXPECT_EQ(
      file.calls,
      Calls({{Op::kWrite, 0, 512}, {Op::kFlushToOs}, {Op::kFlushToDisk}}));
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(top.count(Op::kFlushToDisk), 1);
}

ENGINE_TEST(Flush, AWriteDuringAFlushIsNewToTheNext) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  for (Op during : {Op::kFlushToOs, Op::kFlushToDisk}) {
    disk.Hold(during);
    EXPECT_IO_OK(co_await user.Write(0, View(data)));
    auto flush = Start(user.Flush());
    co_await Settle();
    EXPECT_IO_OK(co_await user.Write(0, View(data)));
    disk.Release(during);
    co_await Settle();
    EXPECT_IO_OK(flush->result());
    const int before = disk.count(Op::kFlushToDisk);
    EXPECT_IO_OK(co_await user.Flush());
    EXPECT_EQ(disk.count(Op::kFlushToDisk), before + 1);
    EXPECT_IO_OK(co_await user.Flush());
    EXPECT_EQ(disk.count(Op::kFlushToDisk), before + 1);
  }
}

// The generation counts when all is done, the zeroing of what grew too.
ENGINE_TEST(Flush, NoFlushInTheMiddleOfARequestCoversIt) {
  TestDriver& base = graph->Add("base", 8192);
  TestDriver& disk = graph->Add("disk", 4096);
  graph->Attach(disk, "backing", ChildRole::kBacking, base);
  Backend& user = graph->Open(disk);
  disk.Hold(Op::kZero);
  auto grow = Start(user.Truncate(8192, true));
  co_await Settle();
  EXPECT_IO_OK(co_await user.Flush());
  disk.Release(Op::kZero);
  co_await Settle();
  EXPECT_TRUE(grow->done());
  const int before = disk.count(Op::kFlushToDisk);
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), before + 1);
}

ENGINE_TEST(Flush, OneAtATimeOnANode) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  disk.Hold(Op::kFlushToOs);
  disk.Hold(Op::kFlushToDisk);
  Flushes flushes = StartFlushes(&user, 5);
  co_await Settle();
  EXPECT_EQ(disk.calls.size(), 1U);
  disk.Release(Op::kFlushToOs);
  co_await Settle();
  EXPECT_EQ(disk.calls.size(), 2U);
  disk.Release(Op::kFlushToDisk);
  co_await Settle();
  for (auto& each : flushes) EXPECT_IO_OK(each->result());
}

ENGINE_TEST(Flush, ManyAtOnceCostOneOrTwo) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kFlushToDisk);
  auto first = Start(user.Flush());
  co_await Settle();
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  Flushes flushes = StartFlushes(&user, 100);
  co_await Settle();
  disk.ReleaseOne(Op::kFlushToDisk);
  co_await Settle();
  EXPECT_TRUE(first->done());
  for (auto& each : flushes) EXPECT_FALSE(each->done()) << "began too early";
  EXPECT_EQ(disk.waiting(Op::kFlushToDisk), 1);
  disk.Release(Op::kFlushToDisk);
  co_await Settle();
  for (auto& each : flushes) EXPECT_IO_OK(each->result());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 2);
  EXPECT_EQ(disk.count(Op::kFlushToOs), 2);
}

ENGINE_TEST(Flush, AFailureIsToldToAllItCoversAndNotRemembered) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kFlushToDisk);
  disk.Fail(Op::kFlushToDisk, EIO, 1, 1);
  auto first = Start(user.Flush());
  co_await Settle();
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  Flushes covered = StartFlushes(&user, 10);
  co_await Settle();
  disk.ReleaseOne(Op::kFlushToDisk);
  co_await Settle();
  EXPECT_IO_OK(first->result());
  Flushes after = StartFlushes(&user, 10);
  co_await Settle();
  disk.Release(Op::kFlushToDisk);
  co_await Settle();
  for (auto& each : covered) EXPECT_IO_ERROR(each->result(), EIO);
  for (auto& each : after) EXPECT_IO_OK(each->result());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 3) << "tried again";
}

// The wake-up of those a flush covered may come after the next one has ended.
ENGINE_TEST(Flush, ALaterFailureIsNotToldToThoseCoveredBefore) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kFlushToOs);
  auto first = Start(user.Flush());
  Flushes covered = StartFlushes(&user, 3);
  co_await Settle();
  disk.ReleaseOne(Op::kFlushToOs);
  co_await Settle();
  EXPECT_TRUE(first->done());
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  disk.Release(Op::kFlushToOs);
  // The round that covers them ends; the next begins and fails at once, before
  // the others have run.
  while (!covered[0]->done()) co_await Loop::Current()->Yield();
  disk.Fail(Op::kFlushToOs, EIO);
  auto late = Start(user.Flush());
  co_await Settle();
  EXPECT_IO_ERROR(late->result(), EIO);
  for (auto& each : covered) EXPECT_IO_OK(each->result());
}

ENGINE_TEST(Flush, AFailureAnywhereFailsIt) {
  TestDriver& file = graph->Add("file", 4096);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "file", ChildRole::kFile, file);
  Backend& user = graph->Open(top);
  top.Fail(Op::kFlushToOs, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Flush(), ENOSPC);
  EXPECT_TRUE(file.calls.empty());
  file.Fail(Op::kFlushToDisk, EIO);
  EXPECT_IO_ERROR(co_await user.Flush(), EIO);
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(file.count(Op::kFlushToDisk), 2);
  EXPECT_EQ(top.count(Op::kFlushToDisk), 1) << "that one had succeeded";
}

ENGINE_TEST(Flush, NoFlushStopsAtTheOperatingSystem) {
  NodeOptions options;
  options.no_flush = true;
  TestDriver& disk = graph->Add("disk", 4096, options);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(disk.calls, Calls({{Op::kFlushToOs}}));
}

ENGINE_TEST(Flush, ClosingAGraphFlushesAndTellsOfAFailure) {
  TestGraph other(&graph->graph().home());
  TestDriver& disk = other.Add("disk", 4096);
  disk.Fail(Op::kFlushToDisk, EIO);
  const absl::Status closed = co_await other.graph().Close();
  EXPECT_FALSE(closed.ok());
  EXPECT_NE(closed.message().find("disk"), absl::string_view::npos) << closed;
}

}  // namespace
}  // namespace bgfs
