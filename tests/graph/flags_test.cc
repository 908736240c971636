// Flags of requests: NO_WAIT, NO_FALLBACK, FUA, WRITE_UNCHANGED, and what a
// filter hands on (engine.md, 2.2, 2.4, 2.5).

#include "drivers/raw.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

// A raw filter over `disk`.
Task<RawDriver*> Filter(TestGraph* graph, TestDriver& disk) {
  auto owned = std::make_unique<RawDriver>(RawDriver::Options{});
  RawDriver* raw = owned.get();
  graph->AddNode("raw", 0, std::move(owned));
  graph->Attach(*raw, "file", ChildRole::kFilter, disk);
  EXPECT_TRUE((co_await raw->Open()).ok());
  co_return raw;
}

ENGINE_TEST(NoWait, TurnsAWaitIntoEBUSY) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(user.Write(0, View(data), kSerialise));
  co_await Settle();
  EXPECT_IO_ERROR(co_await user.Write(256, View(data), kNoWait), EBUSY);
  EXPECT_IO_ERROR(co_await user.Read(256, View(data), kNoWait), EBUSY);
  EXPECT_IO_ERROR(co_await user.Zero(256, 512, kNoWait), EBUSY);
  EXPECT_EQ(disk.calls.size(), 1U) << "none of them came through";
  EXPECT_IO_OK(co_await user.Read(512, View(data), kNoWait));
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_IO_OK(co_await user.Write(256, View(data), kNoWait));
}

ENGINE_TEST(NoWait, ReachesBelowAFilter) {
  TestDriver& disk = graph->Add("disk", 8192);
  RawDriver* raw = co_await Filter(graph, disk);
  Backend& user = graph->Open(*raw);
  Backend& below = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kWrite);
  auto first = Start(below.Write(0, View(data), kSerialise));
  co_await Settle();
  EXPECT_IO_ERROR(co_await user.Write(0, View(data), kNoWait), EBUSY);
  EXPECT_IO_ERROR(co_await user.Read(0, View(data), kNoWait), EBUSY);
  disk.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(first->done());
}

ENGINE_TEST(NoFallback, TellsWhatTheDriverSays) {
  TestDriver& disk = graph->Add("disk", 8192);
  RawDriver* raw = co_await Filter(graph, disk);
  disk.refused[Op::kZero] = true;
  for (Driver* top : {static_cast<Driver*>(&disk), static_cast<Driver*>(raw)}) {
    Backend& user = graph->Open(*top);
    EXPECT_IO_ERROR(co_await user.Zero(0, 4096, kNoFallback), ENOTSUP);
    EXPECT_EQ(disk.count(Op::kWrite), 0);
  }
  Backend& user = graph->Open(disk);
  disk.refused[Op::kZero] = false;
  EXPECT_IO_OK(co_await user.Zero(0, 4096, kNoFallback));
}

ENGINE_TEST(Fua, AFlushFollowsWhereTheDriverHasNone) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(data), kFua));
  EXPECT_IO_OK(co_await user.Zero(0, 512, kFua));
  EXPECT_EQ(disk.calls, Calls({{Op::kWrite, 0, 512},
                               {Op::kFlushToOs, 0, 0},
                               {Op::kFlushToDisk, 0, 0},
                               {Op::kZero, 0, 512},
                               {Op::kFlushToOs, 0, 0},
                               {Op::kFlushToDisk, 0, 0}}));
  disk.Fail(Op::kFlushToDisk, EIO);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data), kFua), EIO);
  disk.Fail(Op::kWrite, ENOSPC);
  const int flushes = disk.count(Op::kFlushToOs);
  EXPECT_IO_ERROR(co_await user.Write(0, View(data), kFua), ENOSPC);
  EXPECT_EQ(disk.count(Op::kFlushToOs), flushes);
}

ENGINE_TEST(Fua, IsPassedOnWhereTheDriverHasIt) {
  TestDriver& disk = graph->Add("disk", 8192, Aligned(512));
  disk.fua = true;
  RawDriver* raw = co_await Filter(graph, disk);
  Backend& user = graph->Open(*raw);
  std::string data = Fill('a', 600);
  EXPECT_IO_OK(co_await user.Write(0, View(data), kFua));
  EXPECT_IO_OK(co_await user.Zero(0, 512, kFua));
  EXPECT_EQ(disk.count(Op::kFlushToOs), 0);
  for (const Call& call : disk.calls) {
    if (call.op == Op::kWrite) {
      EXPECT_EQ(call.flags & kFua, kFua) << call;
    }
  }
  disk.fua = false;
  EXPECT_IO_OK(co_await user.Write(0, View(data), kFua));
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1) << "below a filter";
}

// What the driver does for the data says nothing of the new size.
ENGINE_TEST(Fua, AWriteThatGrowsTheNodeIsFlushed) {
  TestDriver& disk = graph->Add("disk", 8192);
  disk.fua = true;
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(8192, View(data), kFua));
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
}

// The flush holds back nobody who waits for the write only.
ENGINE_TEST(Fua, TheFlushKeepsNoClaim) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kFlushToDisk);
  auto durable = Start(user.Write(0, View(data), kFua | kSerialise));
  co_await Settle();
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_FALSE(durable->done());
  EXPECT_GT(disk.node().in_flight().count(), 0) << "a drain waits for it";
  disk.Release(Op::kFlushToDisk);
  co_await Settle();
  EXPECT_TRUE(durable->done());
}

ENGINE_TEST(Fua, WritethroughIsForEveryChangeOfTheBackend) {
  TestDriver& disk = graph->Add("disk", 8192, Unmapping());
  Backend& user = graph->Open(disk);
  Backend& other = graph->Open(disk);
  user.SetWritethrough(true);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
  EXPECT_IO_OK(co_await user.Zero(0, 512));
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 2);
  EXPECT_IO_OK(co_await user.Truncate(16384, true));
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 3);
  EXPECT_IO_OK(co_await other.Write(0, View(data)));
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 3);
}

constexpr PermissionSet kCopier = {kConsistentRead | kWriteUnchanged,
                                   kAllPermissions};

ENGINE_TEST(Unchanged, NeedsOnlyThatRight) {
  TestDriver& disk = graph->Add("disk", 8192);
  RawDriver* raw = co_await Filter(graph, disk);
  std::string data = Fill('a', 512);
  Backend& copier = graph->Open(*raw, kCopier);
  EXPECT_IO_OK(co_await copier.Write(0, View(data), kUnchanged));
  EXPECT_IO_OK(co_await copier.Zero(0, 512, kUnchanged));
  EXPECT_IO_ERROR(co_await copier.Write(0, View(data)), EPERM);
  EXPECT_IO_ERROR(co_await copier.Zero(0, 512), EPERM);
  graph->Drop(copier);
  Backend& reader = graph->Open(*raw, {kConsistentRead, kAllPermissions});
  EXPECT_IO_ERROR(co_await reader.Write(0, View(data), kUnchanged), EPERM);
  Backend& writer = graph->Open(*raw);
  EXPECT_IO_OK(co_await writer.Write(0, View(data), kUnchanged));
}

}  // namespace
}  // namespace bgfs
