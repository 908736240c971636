// Copy range (engine.md, 2.10).

#include "drivers/create.h"
#include "drivers/raw.h"
#include "graph/drain.h"
#include "tests/graph/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

using Op = TestDriver::Op;
using Call = TestDriver::Call;

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

// Two leaves that offload copies, with a backend each.
struct Pair {
  explicit Pair(TestGraph* graph, const Limits& limits = {})
      : source(graph->Add("source", 8192, limits)),
        target(graph->Add("target", 8192, limits)),
        from(graph->Open(source)),
        to(graph->Open(target)) {
    source.bytes() = Fill('s', 4096) + Fill('t', 4096);
    source.copies = target.copies = true;
  }
  TestDriver& source;
  TestDriver& target;
  Backend& from;
  Backend& to;
};

Task<Backend*> OverRaw(TestGraph* graph, std::string name, TestDriver& disk) {
  auto owned = std::make_unique<RawDriver>(RawDriver::Options{512, {}});
  RawDriver* raw = owned.get();
  graph->AddNode(std::move(name), 0, std::move(owned));
  graph->Attach(*raw, "file", ChildRole::kFilter, disk);
  EXPECT_TRUE((co_await raw->Open()).ok());
  co_return &graph->Open(*raw);
}

ENGINE_TEST(Copy, IsOffloadedBetweenLeavesOfOneKind) {
  Pair pair(graph);
  EXPECT_IO_OK(co_await pair.from.CopyRange(4000, pair.to, 100, 200));
  EXPECT_EQ(pair.target.bytes().substr(100, 201),
            Fill('s', 96) + Fill('t', 104) + Fill(0, 1));
  EXPECT_EQ(pair.source.calls.size(), 0U);
  EXPECT_EQ(pair.target.calls, Calls({{Op::kCopy, 100, 200}}));
}

ENGINE_TEST(Copy, GoesDownThroughFilters) {
  Pair pair(graph);
  Backend* from = co_await OverRaw(graph, "raw1", pair.source);
  Backend* to = co_await OverRaw(graph, "raw2", pair.target);
  EXPECT_IO_OK(co_await from->CopyRange(3584, *to, 512, 1024));
  EXPECT_EQ(pair.target.calls, Calls({{Op::kCopy, 1024, 1024}}));
  EXPECT_EQ(pair.target.bytes().substr(1024, 1024), Fill('t', 1024));
}

ENGINE_TEST(Copy, FallsBackToReadingAndWriting) {
  Pair pair(graph);
  for (int step = 0; step < 3; ++step) {
    pair.source.copies = step != 0;
    pair.target.copies = step != 1;
    pair.target.refused[Op::kCopy] = step == 2;
    pair.target.bytes() = Fill(0, 8192);
    EXPECT_IO_OK(co_await pair.from.CopyRange(4000, pair.to, 100, 200));
    EXPECT_EQ(pair.target.bytes().substr(100, 200),
              Fill('s', 96) + Fill('t', 104));
    EXPECT_EQ(pair.target.count(Op::kWrite), step + 1);
  }
}

ENGINE_TEST(Copy, OtherErrorsAreErrors) {
  Pair pair(graph);
  pair.target.Fail(Op::kCopy, ENOSPC);
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(0, pair.to, 0, 512), ENOSPC);
  EXPECT_EQ(pair.target.count(Op::kWrite), 0);
  pair.source.copies = false;
  pair.source.Fail(Op::kRead, EIO);
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(0, pair.to, 0, 512), EIO);
  EXPECT_EQ(pair.target.count(Op::kWrite), 0);
}

ENGINE_TEST(Copy, IsTrackedAsAReadAndAWrite) {
  Pair pair(graph);
  pair.target.Hold(Op::kCopy);
  auto copy = Start(pair.from.CopyRange(0, pair.to, 4096, 512));
  co_await Settle();
  EXPECT_EQ(pair.source.node().requests().count(), 1);
  EXPECT_EQ(pair.target.node().requests().count(), 1);
  std::string data = Fill('n', 512);
  auto write = Start(pair.from.Write(0, View(data), kSerialise));
  auto read = Start(pair.to.Read(4096, View(data), kSerialise));
  EXPECT_IO_OK(co_await pair.to.Read(0, View(data), kSerialise));
  co_await Settle();
  EXPECT_FALSE(write->done() || read->done());
  pair.target.Release(Op::kCopy);
  co_await Settle();
  EXPECT_TRUE(copy->done() && write->done() && read->done());
  EXPECT_GT(pair.target.node().write_generation(), 1);
}

// Each holds the read that the write of the other would wait for.
ENGINE_TEST(Copy, TwoInOppositeDirectionsDoNotWaitForEachOther) {
  Pair pair(graph);
  const auto all = [](const Request& request) {
    return request.kind() == RequestKind::kWrite ? Range{0, 8192} : Range{};
  };
  pair.source.window = pair.target.window = all;
  pair.target.Hold(Op::kWindow);
  auto there = Start(pair.from.CopyRange(0, pair.to, 0, 512));
  auto back = Start(pair.to.CopyRange(4096, pair.from, 4096, 512));
  co_await Settle();
  pair.target.Release(Op::kWindow);
  co_await Settle();
  EXPECT_TRUE(there->done() && back->done());
  EXPECT_IO_OK(there->result());
  EXPECT_IO_OK(back->result());
  EXPECT_EQ(pair.target.bytes().substr(0, 512), Fill('s', 512));
}

// Its write would wait for its own read.
ENGINE_TEST(Copy, InsideOneNodeWhoseWriteClaimsTheSource) {
  Pair pair(graph);
  pair.source.window = [](const Request&) { return Range{0, 8192}; };
  EXPECT_IO_OK(co_await pair.from.CopyRange(0, pair.from, 4096, 512));
  EXPECT_EQ(pair.source.count(Op::kCopy), 0);
  EXPECT_EQ(pair.source.bytes().substr(4096, 513),
            Fill('s', 512) + Fill('t', 1));
}

ENGINE_TEST(Copy, ThatGrowsTheTargetGoesThroughMemory) {
  Pair pair(graph);
  EXPECT_IO_OK(co_await pair.from.CopyRange(0, pair.to, 8000, 1000));
  EXPECT_EQ(pair.to.size(), 9000);
  EXPECT_EQ(pair.target.bytes().substr(8000), Fill('s', 1000));
  EXPECT_EQ(pair.target.count(Op::kCopy), 0);
}

ENGINE_TEST(Copy, UnalignedEndsArePadded) {
  Pair pair(graph, Aligned(512));
  EXPECT_IO_OK(co_await pair.from.CopyRange(0, pair.to, 100, 512));
  EXPECT_EQ(pair.target.bytes().substr(99, 514),
            Fill(0, 1) + Fill('s', 512) + Fill(0, 1));
}

ENGINE_TEST(Copy, IsRefusedWhereAReadOrAWriteWouldBe) {
  Pair pair(graph);
  Backend& reader =
      graph->Open(pair.target, {kConsistentRead, kAllPermissions});
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(0, reader, 0, 512), EPERM);
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(-1, pair.to, 0, 512), EIO);
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(0, pair.to, -1, 512), EIO);
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(8000, pair.to, 0, 512), EIO);
  EXPECT_IO_ERROR(co_await pair.from.CopyRange(0, pair.from, 511, 512), EINVAL);
  EXPECT_IO_OK(co_await pair.from.CopyRange(0, pair.to, 0, 0));
  EXPECT_TRUE(pair.target.calls.empty());
}

ENGINE_TEST(Copy, IsDurableWhereTheTargetWritesThrough) {
  Pair pair(graph);
  pair.to.SetWritethrough(true);
  EXPECT_IO_OK(co_await pair.from.CopyRange(0, pair.to, 0, 512));
  EXPECT_EQ(pair.target.count(Op::kFlushToDisk), 1);
}

// Parked at one gate, it is not in flight behind the other.
ENGINE_TEST(Copy, WaitsForBothGatesAtOnce) {
  Pair pair(graph);
  Drain target({&pair.target.node()});
  co_await target.Begin();
  auto copy = Start(pair.from.CopyRange(0, pair.to, 0, 512));
  co_await Settle();
  Drain source({&pair.source.node()});
  co_await source.Begin();
  target.End();
  co_await Settle();
  EXPECT_FALSE(copy->done());
  EXPECT_TRUE(pair.target.calls.empty());
  source.End();
  co_await Settle();
  EXPECT_TRUE(copy->done());
}

// --- Files, whose copies are short, interrupted, and done page by page
// --------

Task<std::unique_ptr<Backend>> OpenFile(Graph* graph, const char* name) {
  proto::Node node;
  node.set_read_only(false);
  node.mutable_file()->set_filename(name);
  auto opened = co_await OpenNode(*graph, node, OpenContext{});
  EXPECT_TRUE(opened.ok()) << opened.status();
  auto backend = Backend::Create(
      name, *opened, {kConsistentRead | kWrite | kResize, kAllPermissions});
  EXPECT_TRUE(backend.ok()) << backend.status();
  co_return *std::move(backend);
}

Task<void> CopyAtRandom(SimWorld* world) {
  Graph graph(&world->loop());
  const char* names[] = {"a", "b"};
  std::unique_ptr<Backend> files[2];
  std::string model[2];
  for (size_t i = 0; i < 2; ++i) {
    for (int at = 0; at < 20000; ++at) {
      model[i] += static_cast<char>(world->random().Below(256));
    }
    world->disk().Create(names[i], model[i]);
    files[i] = co_await OpenFile(&graph, names[i]);
  }
  SimRandom& random = world->random();
  for (int step = 0; step < 20; ++step) {
    const auto from = static_cast<size_t>(random.Below(2));
    const auto to = static_cast<size_t>(random.Below(2));
    const int64_t bytes = random.Between(1, 9000);
    const int64_t offset = random.Below(20000 - bytes);
    const int64_t to_offset = random.Below(21000 - bytes);
    const IoStatus status =
        co_await files[from]->CopyRange(offset, *files[to], to_offset, bytes);
    if (from == to && Range{offset, bytes}.Overlaps({to_offset, bytes})) {
      EXPECT_IO_ERROR(status, EINVAL);
      continue;
    }
    EXPECT_IO_OK(status);
    const auto at = static_cast<size_t>(to_offset);
    const auto count = static_cast<size_t>(bytes);
    model[to].resize(std::max(model[to].size(), at + count));
    model[to].replace(at, count,
                      model[from].substr(static_cast<size_t>(offset), count));
  }
  int64_t offloaded = 0;
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(world->disk().Content(names[i]), model[i]);
    offloaded += files[i]->node().statistics().copies.operations;
    files[i].reset();
  }
  EXPECT_GT(offloaded, 0);
  EXPECT_TRUE((co_await graph.Close()).ok());
}

TEST(Copy, OfFilesGivesWhatWasThere) {
  ForEachSeed(30, [](uint64_t seed) {
    SimWorld world(seed);
    world.Run(CopyAtRandom(&world));
  });
}

// Graphs of two homes share no engine: each request goes to the home of its
// node, from wherever the copy was asked for.
Task<void> OpenOne(TestGraph* graph, char content, Backend** user) {
  TestDriver& disk = graph->Add("disk", 3 * kMiB);
  disk.bytes() = Fill(content, 3 * kMiB);
  disk.copies = true;
  *user = &graph->Open(disk);
  co_return;
}

Task<void> CloseOne(TestGraph* graph) { return graph->Close(); }

TEST(Copy, GoesThroughMemoryBetweenTwoHomes) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SimWorld world(seed);
    SimLoop* homes[] = {&world.AddLoop("one"), &world.AddLoop("two")};
    TestGraph one(homes[0]);
    TestGraph two(homes[1]);
    Backend* from = nullptr;
    Backend* to = nullptr;
    world.Run(*homes[0], OpenOne(&one, 's', &from));
    world.Run(*homes[1], OpenOne(&two, 't', &to));
    // From both homes and from a third loop.
    for (SimLoop* caller : {homes[0], homes[1], &world.loop()}) {
      auto& source = dynamic_cast<TestDriver&>(from->node().driver());
      auto& target = dynamic_cast<TestDriver&>(to->node().driver());
      target.bytes() = Fill('t', 3 * kMiB);
      EXPECT_IO_OK(world.Run(
          *caller, from->CopyRange(100, *to, 200, 2 * kMiB + 1, kFua)));
      EXPECT_EQ(target.bytes().substr(199, 2 * kMiB + 3),
                Fill('t', 1) + Fill('s', 2 * kMiB + 1) + Fill('t', 1));
      EXPECT_EQ(source.count(Op::kCopy), 0);
      EXPECT_EQ(target.count(Op::kCopy), 0);
      EXPECT_GT(target.count(Op::kFlushToDisk), 0);
    }
    world.Run(*homes[0], CloseOne(&one));
    world.Run(*homes[1], CloseOne(&two));
  }
}

}  // namespace
}  // namespace bgfs
