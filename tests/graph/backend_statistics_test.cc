// What the user of a backend waited, in virtual time, and what was counted for
// him.

#include <memory>
#include <string>
#include <vector>

#include "graph/backend.h"
#include "graph/drain.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

// How long it took, as its user sees it.
Task<int64_t> TimeOf(Task<IoStatus> request) {
  Loop* loop = Loop::Current();
  const int64_t begun_ns = loop->NowNs();
  (co_await std::move(request)).Ignore();
  co_return loop->NowNs() - begun_ns;
}

Task<void> Sleep(int64_t ns) {
  Loop* loop = Loop::Current();
  co_await loop->SleepUntil(loop->NowNs() + ns);
}

constexpr int64_t kMs = 1000000;

ENGINE_TEST(BackendStatistics, LatencyIsWhatTheUserWaited) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  const BackendStatistics& statistics = user.statistics();
  disk.Hold(Op::kWrite);
  auto first = Start(TimeOf(user.Write(0, View(data))));
  co_await Sleep(3 * kMs);
  auto second = Start(TimeOf(user.Write(512, View(data))));
  co_await Sleep(4 * kMs);
  EXPECT_EQ(statistics.writes.latency_ns.count(), 0) << "none has ended";
  disk.Release(Op::kWrite);
  co_await Settle();
  const Histogram& latency = statistics.writes.latency_ns;
  EXPECT_EQ(latency.count(), 2);
  EXPECT_EQ(latency.sum(), first->result() + second->result());
  EXPECT_EQ(latency.max(), first->result());
  EXPECT_GE(first->result(), 7 * kMs);
  EXPECT_GE(latency.Quantile(0.5), second->result());
  EXPECT_EQ(statistics.reads.latency_ns.count(), 0);
}

ENGINE_TEST(BackendStatistics, EachKindIsCountedApart) {
  TestDriver& disk = graph->Add("disk", 8192, Unmapping());
  Backend& user = graph->Open(disk);
  const BackendStatistics& statistics = user.statistics();
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  EXPECT_IO_OK(co_await user.Write(0, View(data)));
  EXPECT_IO_OK(co_await user.Zero(0, 100));
  EXPECT_IO_OK(co_await user.Discard(0, 200));
  EXPECT_IO_OK(co_await user.CopyRange(0, user, 1024, 300));
  EXPECT_IO_OK(co_await user.Truncate(4096, true));
  EXPECT_IO_OK(co_await user.Flush());
  const auto expect = [](const BackendStatistics::Timed& kind, int64_t bytes) {
    EXPECT_EQ(kind.operations, 1);
    EXPECT_EQ(kind.bytes, bytes);
    EXPECT_EQ(kind.errors, 0);
    EXPECT_EQ(kind.latency_ns.count(), 1);
  };
  expect(statistics.reads, 512);
  expect(statistics.writes, 512);
  expect(statistics.zeros, 100);
  expect(statistics.discards, 200);
  expect(statistics.copies, 300);
  expect(statistics.truncates, 0);
  expect(statistics.flushes, 0);
}

ENGINE_TEST(BackendStatistics, ErrorsAreCountedWithoutTheirBytes) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Fail(Op::kRead, EIO);
  EXPECT_IO_ERROR(co_await user.Read(0, View(data)), EIO);
  EXPECT_EQ(user.statistics().reads.operations, 1);
  EXPECT_EQ(user.statistics().reads.errors, 1);
  EXPECT_EQ(user.statistics().reads.bytes, 0);
  EXPECT_EQ(user.statistics().reads.latency_ns.count(), 1);
  Backend& reader = graph->Open(disk, {kConsistentRead, kAllPermissions});
  EXPECT_IO_ERROR(co_await reader.Write(0, View(data)), EPERM);
  EXPECT_EQ(reader.statistics().writes.errors, 1) << "refused ones too";
}

ENGINE_TEST(BackendStatistics, TheDepthIsTheMostThatWereInFlight) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  std::string data = Fill('a', 512);
  disk.Hold(Op::kRead);
  std::vector<std::shared_ptr<Started<IoStatus>>> reads;
  reads.reserve(5);
  for (int i = 0; i < 5; ++i) reads.push_back(Start(user.Read(0, View(data))));
  EXPECT_EQ(user.in_flight().count(), 5);
  disk.Release(Op::kRead);
  co_await Settle();
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  EXPECT_EQ(user.in_flight().count(), 0);
  EXPECT_EQ(user.statistics().max_in_flight, 5);
}

ENGINE_TEST(BackendStatistics, WhatWasParkedCountsAndIsToldApart) {
  TestDriver& disk = graph->Add("disk", 8192);
  Backend& user = graph->Open(disk);
  const BackendStatistics::Parked& parked = user.statistics().parked;
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await user.Read(0, View(data)));
  EXPECT_EQ(parked.requests, 0);
  user.CloseGate();
  auto read = Start(TimeOf(user.Read(0, View(data))));
  auto write = Start(TimeOf(user.Write(0, View(data))));
  co_await Sleep(2 * kMs);
  EXPECT_EQ(parked.now, 2);
  EXPECT_EQ(user.in_flight().count(), 0);
  user.OpenGate();
  co_await Settle();
  EXPECT_EQ(parked.now, 0);
  EXPECT_EQ(parked.requests, 2);
  EXPECT_GE(parked.longest_ns, 2 * kMs);
  EXPECT_EQ(parked.total_ns, read->result() + write->result())
      << "the disk itself takes no time here";
  EXPECT_EQ(user.statistics().reads.latency_ns.max(), read->result());
  EXPECT_EQ(user.statistics().max_in_flight, 1);
}

}  // namespace
}  // namespace bgfs
