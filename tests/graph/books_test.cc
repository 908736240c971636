// What a node writes down of each request before it is answered (engine.md, 2.4
// to 2.7, 2.12): highest offset, write threshold, dirty bitmaps, statistics.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/observer.h"
#include "tests/graph/cow_graph.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

ENGINE_TEST(Books, TheHighestWriteIsThatOfWritesAndZeros) {
  TestDriver& disk = graph->Add("disk", 8192, Unmapping());
  Backend& user = graph->Open(disk);
  Node& node = disk.node();
  std::string data = Fill('a', 512);
  EXPECT_EQ(node.highest_write(), 0);
  EXPECT_IO_OK(co_await user.Write(1024, View(data)));
  EXPECT_EQ(node.highest_write(), 1536);
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_EQ(node.highest_write(), 1536);
  EXPECT_IO_OK(co_await user.Zero(2048, 512));
  EXPECT_EQ(node.highest_write(), 2560);
  EXPECT_IO_OK(co_await user.Read(4096, View(data)));
  EXPECT_IO_OK(co_await user.Discard(4096, 512));
  EXPECT_IO_OK(co_await user.Truncate(16384, true));
  EXPECT_EQ(node.highest_write(), 2560);
  disk.Fail(Op::kWrite, EIO);
  EXPECT_IO_ERROR(co_await user.Write(3072, View(data)), EIO);
  EXPECT_EQ(node.highest_write(), 3584) << "half of it is there";
}

ENGINE_TEST(WriteThreshold, TellsOnceBeforeTheReply) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  std::vector<WriteThreshold::Event> events;
  WriteThreshold& threshold = disk.node().write_threshold();
  threshold.Arm(1024, [&](WriteThreshold::Event event) {
    EXPECT_EQ(disk.count(Op::kWrite), 2) << "when it is written";
    events.push_back(event);
  });
  EXPECT_IO_OK(co_await user.Write(512, View(data)));
  EXPECT_TRUE(events.empty()) << "it ends there";
  EXPECT_TRUE(threshold.armed());
  EXPECT_IO_OK(co_await user.Write(1000, View(data)));
  EXPECT_EQ(events.size(), 1U);
  EXPECT_EQ(events.at(0).threshold, 1024);
  EXPECT_EQ(events.at(0).exceeded_by, 488);
  EXPECT_FALSE(threshold.armed());
  EXPECT_IO_OK(co_await user.Write(4096, View(data)));
  EXPECT_EQ(events.size(), 1U);
}

ENGINE_TEST(WriteThreshold, AlsoByAWriteThatFails) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  int told = 0;
  disk.node().write_threshold().Arm(1024,
                                    [&](WriteThreshold::Event) { ++told; });
  disk.Fail(Op::kWrite, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Write(1024, View(data)), ENOSPC);
  EXPECT_EQ(told, 1);
  disk.node().write_threshold().Arm(1024,
                                    [&](WriteThreshold::Event) { ++told; });
  disk.node().write_threshold().Disarm();
  EXPECT_IO_OK(co_await user.Write(1024, View(data)));
  EXPECT_EQ(told, 1);
}

// What is dirty, and then no more.
std::string TakeDirty(DirtyBitmap* bitmap, int64_t size) {
  std::string units;
  for (int64_t at = 0; at < size; at += 512) {
    units += bitmap->bits().IsSet(at) ? '#' : '.';
  }
  EXPECT_TRUE(bitmap->Clear().ok());
  return units;
}

ENGINE_TEST(Books, DirtyBitmapsSeeEveryChange) {
  TestDriver& disk = graph->Add("disk", 4096, Unmapping());
  Backend& user = graph->Open(disk);
  DirtyBitmap* bitmap = *disk.node().dirty_bitmaps().Add("b", 512);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(100, View(data)));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "##......");
  EXPECT_IO_OK(co_await user.Zero(1024, 512));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "..#.....");
  EXPECT_IO_OK(co_await user.Discard(1536, 1024));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "...##...");
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  EXPECT_IO_OK(co_await user.Reserve(0, 512));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "........");
  disk.Fail(Op::kWrite, EIO);
  EXPECT_IO_ERROR(co_await user.Write(512, View(data)), EIO);
  EXPECT_EQ(TakeDirty(bitmap, 4096), ".#......");
}

ENGINE_TEST(Books, DirtyBitmapsFollowTheSize) {
  TestDriver& disk = graph->Add("disk", 2048);
  Backend& user = graph->Open(disk);
  DirtyBitmap* bitmap = *disk.node().dirty_bitmaps().Add("b", 512);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(3072, View(data)));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "....###.") << "the gap, too";
  EXPECT_IO_OK(co_await user.Truncate(4096, true));
  EXPECT_IO_OK(co_await user.Truncate(1024, true));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "........") << "nothing is there";
  // What was there may be in a backup, and reads as zeros now.
  EXPECT_IO_OK(co_await user.Truncate(2048, true));
  EXPECT_EQ(TakeDirty(bitmap, 4096), "..##....");
  disk.Fail(Op::kWrite, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Write(2048, View(data)), ENOSPC);
  EXPECT_EQ(TakeDirty(bitmap, 4096), "........") << "the node has not grown";
}

ENGINE_TEST(Books, CopyOnReadChangesNothingThatIsSeen) {
  Cow cow(graph);
  Node& node = cow.driver->node();
  DirtyBitmap* bitmap = *node.dirty_bitmaps().Add("b", 512);
  std::string data = Fill('?', 512);
  EXPECT_IO_OK(co_await cow.user->Read(0, View(data), kCopyOnRead));
  EXPECT_EQ(bitmap->bits().dirty_bytes(), 0);
  EXPECT_EQ(node.highest_write(), Cow::kCluster);
}

ENGINE_TEST(Books, StatisticsCountEachKind) {
  TestDriver& disk = graph->Add("disk", 8192, Unmapping());
  TestDriver& source = graph->Add("source", 8192);
  disk.copies = source.copies = true;
  Backend& user = graph->Open(disk);
  Backend& from = graph->Open(source);
  const NodeStatistics& statistics = disk.node().statistics();
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  disk.Fail(Op::kWrite, EIO);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data)), EIO);
  EXPECT_EQ(statistics.writes.operations, 3);
  EXPECT_EQ(statistics.writes.bytes, 1024);
  EXPECT_EQ(statistics.writes.errors, 1);
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  EXPECT_EQ(statistics.reads.bytes, 512);
  EXPECT_IO_OK(co_await user.Zero(0, 100));
  EXPECT_EQ(statistics.zeros.bytes, 100);
  EXPECT_IO_OK(co_await user.Discard(0, 200));
  EXPECT_EQ(statistics.discards.bytes, 200);
  EXPECT_IO_OK(co_await from.CopyRange(0, user, 0, 300));
  EXPECT_EQ(statistics.copies.bytes, 300);
  EXPECT_IO_OK(co_await user.Truncate(4096, true));
  EXPECT_EQ(statistics.truncates.operations, 1);
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(statistics.flushes.operations, 1);
  EXPECT_EQ(statistics.reads.operations + statistics.zeros.operations +
                statistics.discards.operations + statistics.copies.operations,
            4);
}

ENGINE_TEST(Books, StatisticsTellWhoWaited) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  const NodeStatistics& statistics = disk.node().statistics();
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(0, View(data), kSerialise));
  auto second = Start(user.Write(0, View(data)));
  co_await Settle();
  EXPECT_EQ(statistics.serialising_waits, 1);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done() && second->done());
  disk.Hold(Op::kFlushToDisk);
  std::vector<std::shared_ptr<Started<IoStatus>>> flushes;
  flushes.reserve(4);
  for (int i = 0; i < 4; ++i) flushes.push_back(Start(user.Flush()));
  co_await Settle();
  disk.Release(Op::kFlushToDisk);
  co_await Settle();
  EXPECT_EQ(statistics.flushes.operations, 4);
  EXPECT_EQ(statistics.flushes_coalesced, 2) << "behind the second that ran";
}

class Listener final : public GraphObserver {
 public:
  void OnWriteThreshold(const Node& node,
                        WriteThreshold::Event event) override {
    told.push_back(absl::StrCat(node.name(), " ", event.threshold, "+",
                                event.exceeded_by));
  }
  void OnFlushFailed(const Node& node, IoStatus status) override {
    told.push_back(absl::StrCat(node.name(), " ", status.error()));
  }
  std::vector<std::string> Take() { return std::exchange(told, {}); }

  std::vector<std::string> told;
};

using Told = std::vector<std::string>;

ENGINE_TEST(Observer, IsToldOfAThresholdOnce) {
  Listener listener;
  TestGraph own(&graph->graph().home(), &listener);
  TestDriver& disk = own.Add("disk", 8192);
  Backend& user = own.Open(disk);
  std::string data = Fill('a', 512);
  disk.node().SetWriteThreshold(1024);
  EXPECT_IO_OK(co_await user.Write(512, View(data)));
  EXPECT_EQ(listener.Take(), Told{});
  EXPECT_IO_OK(co_await user.Write(1000, View(data)));
  EXPECT_EQ(listener.Take(), Told{"disk 1024+488"});
  EXPECT_IO_OK(co_await user.Write(4096, View(data)));
  EXPECT_EQ(listener.Take(), Told{});
  disk.node().SetWriteThreshold(0);
  EXPECT_FALSE(disk.node().write_threshold().armed());
  co_await own.Close();
}

ENGINE_TEST(Observer, IsToldOfAFailedFlushOnceAndByTheNodeThatFailed) {
  Listener listener;
  TestGraph own(&graph->graph().home(), &listener);
  TestDriver& file = own.Add("file", 4096);
  TestDriver& top = own.Add("top", 4096);
  own.Attach(top, "file", ChildRole::kFile, file);
  Backend& user = own.Open(top);
  file.Fail(Op::kFlushToDisk, EIO, 3);
  for (int i = 0; i < 3; ++i) EXPECT_IO_ERROR(co_await user.Flush(), EIO);
  EXPECT_EQ(listener.Take(), Told{absl::StrCat("file ", EIO)});
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(listener.Take(), Told{});
  top.Fail(Op::kFlushToOs, ENOSPC);
  EXPECT_IO_ERROR(co_await user.Flush(), ENOSPC);
  file.Fail(Op::kFlushToOs, EIO);
  EXPECT_IO_ERROR(co_await user.Flush(), EIO);
  EXPECT_EQ(listener.Take(),
            (Told{absl::StrCat("top ", ENOSPC), absl::StrCat("file ", EIO)}))
      << "each anew";
  co_await own.Close();
}

}  // namespace
}  // namespace bgfs
