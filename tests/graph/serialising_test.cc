// Who waits for whom (engine.md, 2.1 and 2.2).

#include <vector>

#include "graph/io.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

constexpr int64_t kCluster = 65536;

// Writes change whole clusters.
Range WholeClusters(const Request& request) {
  return request.range().AlignedTo(kCluster);
}

// --- Tracking (2.1) --------------------------------------------------------

ENGINE_TEST(Tracking, EveryKindIsTrackedWhileItIsUnderWay) {
  TestDriver& disk = graph->Add("disk", 4 * kCluster, Unmapping());
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 4096);
  for (Op op : {Op::kRead, Op::kWrite, Op::kZero, Op::kDiscard, Op::kReserve,
                Op::kTruncate, Op::kStatus}) {
    disk.Hold(op);
  }
  // A truncate is serialising and would wait for the others.
  std::vector<std::shared_ptr<Started<IoStatus>>> started;
  started.push_back(Start(user.Read(0, View(data))));
  started.push_back(Start(user.Write(0, View(data))));
  started.push_back(Start(user.Zero(0, 512)));
  started.push_back(Start(user.Discard(0, 512)));
  started.push_back(Start(user.Reserve(0, 512)));
  started.push_back(Start(user.Truncate(5 * kCluster, true)));
  auto status = Start(user.Status(0, 512));
  co_await Settle();
  EXPECT_EQ(disk.node().requests().count(), 7);
  EXPECT_EQ(disk.node().in_flight().count(), 14) << "backend's and node's";
  for (Op op : {Op::kRead, Op::kWrite, Op::kZero, Op::kDiscard, Op::kReserve,
                Op::kTruncate, Op::kStatus}) {
    EXPECT_EQ(disk.waiting(op), 1) << TestDriver::Call{op};
    disk.Release(op);
  }
  co_await Settle();
  for (auto& each : started) EXPECT_IO_OK(each->result());
  EXPECT_TRUE(status->result().ok());
  EXPECT_EQ(disk.node().requests().count(), 0);
  EXPECT_EQ(disk.node().in_flight().count(), 0);
}

ENGINE_TEST(Tracking, AFlushIsInFlightWithoutARange) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  disk.Hold(Op::kFlushToDisk);
  auto flush = Start(user.Flush());
  co_await Settle();
  EXPECT_EQ(disk.node().requests().count(), 0);
  EXPECT_EQ(disk.node().in_flight().count(), 2);
  disk.Release(Op::kFlushToDisk);
  co_await Settle();
  EXPECT_IO_OK(flush->result());
}

ENGINE_TEST(Tracking, ARequestNamesTheOneWhoseDriverIssuedIt) {
  TestDriver& disk = graph->Add("disk", 4096);
  TestDriver& filter = graph->Add("filter", 4096);
  filter.forward_to = &graph->Attach(filter, "file", ChildRole::kFilter, disk);
  Backend& user = graph->Open(filter);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_EQ(filter.calls[0].parent, nullptr);
  EXPECT_NE(filter.calls[0].request, nullptr);
  EXPECT_EQ(disk.calls[0].parent, filter.calls[0].request);
}

// --- Conflicts (2.2) -------------------------------------------------------

ENGINE_TEST(Serialising, OverwritesInPlaceRunSideBySide) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 4096);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(0, View(data)));
  auto second = Start(user.Write(0, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kWrite), 2);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_IO_OK(first->result());
  EXPECT_IO_OK(second->result());
}

ENGINE_TEST(Serialising, TheChangeWindowKeepsOthersOut) {
  TestDriver& disk = graph->Add("disk", 4 * kCluster);
  disk.window = WholeClusters;
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  std::string seen = Fill('?', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(0, View(data)));
  auto inside = Start(user.Write(kCluster - 512, View(data)));
  auto reader = Start(user.Read(4096, View(seen)));
  auto beside = Start(user.Write(kCluster, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kWrite), 2) << "the first and the one beside";
  EXPECT_EQ(disk.count(Op::kRead), 0);
  disk.ReleaseOne(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done());
  EXPECT_EQ(disk.waiting(Op::kWrite), 2) << "the one beside and the one inside";
  EXPECT_FALSE(reader->done()) << "the one inside arrived earlier";
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(inside->done() && reader->done() && beside->done());
}

ENGINE_TEST(Serialising, WaitsForWhatRuns) {
  TestDriver& disk = graph->Add("disk", kCluster);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kRead);
  auto reader = Start(user.Read(1024, View(data)));
  co_await Settle();
  disk.window = WholeClusters;
  auto writer = Start(user.Write(0, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.count(Op::kWrite), 0);
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_IO_OK(reader->result());
  EXPECT_IO_OK(writer->result());
}

ENGINE_TEST(Serialising, WhatWaitsIsNotOvertaken) {
  TestDriver& disk = graph->Add("disk", kCluster);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kRead);
  auto running = Start(user.Read(0, View(data)));
  auto waiting = Start(user.Write(0, View(data), kSerialise));
  auto late = Start(user.Read(0, View(data)));
  auto apart = Start(user.Read(4096, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kRead), 2) << "the first and the one apart";
  disk.ReleaseOne(Op::kRead);
  disk.ReleaseOne(Op::kRead);
  co_await Settle();
  EXPECT_IO_OK(running->result());
  EXPECT_IO_OK(apart->result());
  EXPECT_IO_OK(waiting->result());
  EXPECT_EQ(disk.waiting(Op::kRead), 1) << "the late one, after the writer";
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_IO_OK(late->result());
}

ENGINE_TEST(Serialising, AJobMayAskForIt) {
  TestDriver& disk = graph->Add("disk", kCluster);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  disk.Hold(Op::kZero);
  auto write = Start(user.Write(0, View(data), kSerialise));
  auto zero = Start(user.Zero(0, 1024, kSerialise));
  auto other = Start(user.Write(512, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kWrite), 1);
  EXPECT_EQ(disk.waiting(Op::kZero), 0);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_EQ(disk.waiting(Op::kZero), 1);
  EXPECT_FALSE(other->done()) << "it waits for the zero request";
  disk.Release(Op::kZero);
  co_await Settle();
  EXPECT_TRUE(write->done() && zero->done() && other->done());
}

ENGINE_TEST(Serialising, TheWindowIsRoundedToTheAlignment) {
  TestDriver& disk = graph->Add("disk", kCluster, Aligned(4096));
  disk.window = [](const Request& request) { return request.range(); };
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 4096);
  std::string seen = Fill('?', 512);
  disk.window = [](const Request&) { return Range{4000, 100}; };
  disk.Hold(Op::kWrite);
  auto writer = Start(user.Write(4096, View(data)));
  auto reader = Start(user.Read(0, View(seen)));
  co_await Settle();
  EXPECT_EQ(disk.count(Op::kRead), 0) << "[4000, 4100) claims [0, 8192)";
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(writer->done() && reader->done());
}

// --- Asking again ----------------------------------------------------------

ENGINE_TEST(ChangeWindow, IsAskedAgainAfterAWait) {
  TestDriver& disk = graph->Add("disk", 4 * kCluster);
  disk.window = WholeClusters;
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  disk.Hold(Op::kRead);
  auto first = Start(user.Write(0, View(data)));
  auto second = Start(user.Write(512, View(data)));
  auto reader = Start(user.Read(2 * kCluster, View(data)));
  co_await Settle();
  // What the first one does moves the window of the second.
  disk.window = [](const Request&) { return Range{2 * kCluster, kCluster}; };
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done());
  EXPECT_FALSE(second->done()) << "it claims where the reader runs";
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(second->done() && reader->done());
}

ENGINE_TEST(ChangeWindow, IsAskedAgainWhenAConflictEndsMeanwhile) {
  TestDriver& disk = graph->Add("disk", 4 * kCluster);
  disk.window = WholeClusters;
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(0, View(data)));
  disk.Hold(Op::kWindow);
  auto second = Start(user.Write(512, View(data)));
  auto apart = Start(user.Write(2 * kCluster, View(data)));
  co_await Settle();
  EXPECT_EQ(disk.windows_asked, 3);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done());
  EXPECT_EQ(disk.windows_asked, 3);
  disk.Release(Op::kWindow);
  co_await Settle();
  EXPECT_TRUE(second->done() && apart->done());
  // The second again; the one apart as well, whose claim grew meanwhile by a
  // part of which it cannot tell.
  EXPECT_EQ(disk.windows_asked, 5);
}

ENGINE_TEST(ChangeWindow, IsAskedAgainWhenTheConflictLiesInTheWindow) {
  TestDriver& disk = graph->Add("disk", 4 * kCluster);
  disk.window = WholeClusters;
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(kCluster, View(data)));
  co_await Settle();
  // A larger unit of change than the range's own cluster.
  disk.window = [](const Request&) { return Range{0, 2 * kCluster}; };
  disk.Hold(Op::kWindow);
  auto second = Start(user.Write(0, View(data)));
  co_await Settle();
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done());
  disk.Release(Op::kWindow);
  co_await Settle();
  EXPECT_TRUE(second->done());
  EXPECT_EQ(disk.windows_asked, 3);
}

ENGINE_TEST(ChangeWindow, IsNotAskedForReads) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Read(0, View(data), kSerialise));
  EXPECT_TRUE((co_await user.Status(0, 512)).ok());
  EXPECT_EQ(disk.windows_asked, 0);
}

ENGINE_TEST(ChangeWindow, AQueryThatFailsFailsTheRequest) {
  TestDriver& disk = graph->Add("disk", kCluster, Unmapping());
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Fail(Op::kWindow, ENOMEM, 4);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data)), ENOMEM);
  EXPECT_IO_ERROR(co_await user.Zero(0, 512), ENOMEM);
  EXPECT_IO_ERROR(co_await user.Discard(0, 512), ENOMEM);
  EXPECT_IO_ERROR(co_await user.Truncate(512, true), ENOMEM);
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_EQ(disk.node().requests().count(), 0);
  EXPECT_EQ(disk.node().requests().serialising_count(), 0);
}

ENGINE_TEST(ChangeWindow, ACrowdDoesNotWakeTogether) {
  constexpr int64_t kCrowd = 50;
  TestDriver& disk = graph->Add("disk", kCluster);
  disk.window = WholeClusters;
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  std::vector<std::shared_ptr<Started<IoStatus>>> crowd;
  crowd.reserve(kCrowd);
  for (int64_t i = 0; i < kCrowd; ++i) {
    crowd.push_back(Start(user.Write(512 * i, View(data))));
  }
  // One after the other, and all that are woken meanwhile get to ask.
  for (auto& each : crowd) {
    co_await Settle();
    disk.ReleaseOne(Op::kWrite);
    EXPECT_IO_OK(co_await each->Wait());
  }
  disk.Release(Op::kWrite);
  // Once when it came and once when its turn came, but for the first.
  EXPECT_EQ(disk.windows_asked, 2 * kCrowd - 1);
}

ENGINE_TEST(Serialising, TheSizeIsLookedAtAgainAfterAWait) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& owner = graph->Open(disk);
  Backend& user =
      graph->Open(disk, {kConsistentRead | kWrite, kAllPermissions});
  std::string data = Fill('a', 512);
  disk.Hold(Op::kTruncate);
  auto shrink = Start(owner.Truncate(4096, true));
  auto write = Start(user.Write(4096, View(data)));
  auto read = Start(user.Read(4096, View(data)));
  auto reserve = Start(owner.Reserve(4096, 512));
  auto discard = Start(user.Discard(4096, 512));
  auto extend = Start(owner.Write(4608, View(data)));
  co_await Settle();
  disk.Release(Op::kTruncate);
  co_await Settle();
  EXPECT_IO_OK(shrink->result());
  EXPECT_IO_ERROR(write->result(), EIO);
  EXPECT_IO_ERROR(read->result(), EIO);
  EXPECT_IO_ERROR(reserve->result(), EIO);
  EXPECT_IO_OK(discard->result());
  EXPECT_IO_OK(extend->result());
  EXPECT_EQ(disk.node().size(), 5120);
  EXPECT_EQ(disk.bytes().substr(4096, 512), Fill(0, 512));
}

// --- Ancestors -------------------------------------------------------------

// A driver that makes a mistake: it serves a write by a request on itself.
class Recursive : public TestDriver {
 public:
  using TestDriver::TestDriver;
  Child* self = nullptr;
  bool behind_another = false;

  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override {
    if (request.parent() != nullptr) co_return IoStatus();
    if (behind_another) co_await Settle();
    co_return co_await self->Write(&request, offset, data);
  }
};

Task<void> WaitForAncestor(TestGraph* graph, bool behind_another) {
  auto owned = std::make_unique<Recursive>(4096);
  Recursive& disk = *owned;
  graph->AddNode("loop", 4096, std::move(owned));
  Backend& user = graph->Open(disk);
  disk.self = &user.root();
  disk.behind_another = behind_another;
  disk.window = [](const Request& request) { return request.range(); };
  std::string data = Fill('a', 512);
  auto write = Start(user.Write(0, View(data)));
  auto other = Start(user.Write(0, View(data)));
  co_await Settle();
  EXPECT_TRUE(write->done() && other->done());
}

constexpr char kAncestors[] =
    "waits for its own ancestor\n.*request: write .* on node \"loop\".*\n"
    ".*ancestor: write .* on node \"loop\"";

TEST(AncestorDeathTest, WaitingForAnAncestorAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunEngineTest([](TestGraph* graph) {
                 return WaitForAncestor(graph, /*behind_another=*/false);
               }),
               kAncestors);
}

TEST(AncestorDeathTest, AlsoBehindAnother) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunEngineTest([](TestGraph* graph) {
                 return WaitForAncestor(graph, /*behind_another=*/true);
               }),
               kAncestors);
}

}  // namespace
}  // namespace bgfs
