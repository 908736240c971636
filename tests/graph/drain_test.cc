// Drain (engine.md, 3), and the gates of backends.

#include "graph/drain.h"

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

// Begins a drain in the background; end() when begun.
struct Draining {
  explicit Draining(const std::vector<Node*>& nodes) : drain(nodes) {
    begun = Start(Begin(&drain));
  }
  static Task<bool> Begin(Drain* drain) {
    co_await drain->Begin();
    co_return true;
  }
  Drain drain;
  std::shared_ptr<Started<bool>> begun;
};

// user ─▶ top ─file▶ file, ─backing▶ base;  other ─▶ base;  far ─▶ apart
struct House {
  explicit House(TestGraph* graph)
      : base(graph->Add("base", 4096)),
        file(graph->Add("file", 4096)),
        top(graph->Add("top", 4096)),
        apart(graph->Add("apart", 4096)) {
    top.forward_to = &graph->Attach(top, "file", ChildRole::kFile, file);
    graph->Attach(top, "backing", ChildRole::kBacking, base);
    user = &graph->Open(top);
    other = &graph->Open(base, {kConsistentRead, kAllPermissions});
    far = &graph->Open(apart);
  }
  TestDriver& base;
  TestDriver& file;
  TestDriver& top;
  TestDriver& apart;
  Backend* user = nullptr;
  Backend* other = nullptr;
  Backend* far = nullptr;
};

ENGINE_TEST(Drain, ReturnsWhenNothingIsInFlight) {
  House house(graph);
  std::string data = Fill('a', 512);
  house.file.Hold(Op::kWrite);
  house.top.Hold(Op::kFlushToOs);
  house.base.Hold(Op::kRead);
  auto write = Start(house.user->Write(0, View(data)));
  auto flush = Start(house.user->Flush());
  auto read = Start(house.other->Read(0, View(data)));
  co_await Settle();
  Draining draining({&house.top.node()});
  co_await Settle();
  EXPECT_FALSE(draining.begun->done());
  house.file.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(write->done()) << "the edge did not block";
  EXPECT_FALSE(draining.begun->done()) << "a flush counts";
  house.top.Release(Op::kFlushToOs);
  co_await Settle();
  EXPECT_TRUE(flush->done());
  EXPECT_FALSE(draining.begun->done()) << "what runs below counts";
  house.base.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(read->done());
  EXPECT_TRUE(draining.begun->done());
  draining.drain.End();
}

ENGINE_TEST(Drain, ParksWhatComes) {
  House house(graph);
  Draining draining({&house.base.node()});
  co_await Settle();
  EXPECT_TRUE(draining.begun->done());
  std::string data = Fill('a', 512);
  auto read = Start(house.user->Read(0, View(data)));
  auto write = Start(house.user->Write(0, View(data)));
  auto zero = Start(house.user->Zero(0, 512));
  auto discard = Start(house.user->Discard(0, 512));
  auto reserve = Start(house.user->Reserve(0, 512));
  auto truncate = Start(house.user->Truncate(8192, true));
  auto flush = Start(house.user->Flush());
  auto status = Start(house.user->Status(0, 512));
  auto allocated = Start(house.user->AllocatedBytes());
  auto below = Start(house.other->Read(0, View(data)));
  co_await Settle();
  EXPECT_FALSE(read->done() || write->done() || zero->done() ||
               discard->done() || reserve->done() || truncate->done() ||
               flush->done() || status->done() || allocated->done() ||
               below->done());
  EXPECT_TRUE(house.top.calls.empty() && house.file.calls.empty() &&
              house.base.calls.empty());
  draining.drain.End();
  co_await Settle();
  EXPECT_TRUE(read->done() && write->done() && zero->done() &&
              discard->done() && reserve->done() && truncate->done() &&
              flush->done() && status->done() && allocated->done() &&
              below->done());
}

ENGINE_TEST(Drain, LeavesAnUnrelatedPartAlone) {
  House house(graph);
  std::string data = Fill('a', 512);
  Draining draining({&house.top.node()});
  co_await Settle();
  EXPECT_IO_OK(co_await house.far->Write(0, View(data)));
  house.apart.Hold(Op::kWrite);
  auto write = Start(house.far->Write(0, View(data)));
  Draining again({&house.top.node()});
  co_await Settle();
  EXPECT_TRUE(again.begun->done()) << "nor waits for it";
  again.drain.End();
  draining.drain.End();
  house.apart.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(write->done());
  EXPECT_EQ(house.apart.drains, 0);
}

ENGINE_TEST(Drain, Nests) {
  House house(graph);
  std::string data = Fill('a', 512);
  Draining outer({&house.top.node()});
  co_await Settle();
  Draining inner({&house.file.node()});
  co_await Settle();
  EXPECT_TRUE(inner.begun->done());
  EXPECT_EQ(house.file.drains, 2);
  auto write = Start(house.user->Write(0, View(data)));
  outer.drain.End();
  co_await Settle();
  EXPECT_FALSE(write->done());
  inner.drain.End();
  co_await Settle();
  EXPECT_TRUE(write->done());
}

ENGINE_TEST(Drain, TellsTheDriversAboveAndBelow) {
  House house(graph);
  Draining draining({&house.file.node()});
  co_await Settle();
  EXPECT_EQ(house.file.drains, 1);
  EXPECT_EQ(house.top.drains, 1);
  draining.drain.End();
  EXPECT_EQ(house.file.drains, 0);
  EXPECT_EQ(house.top.drains, 0);
}

// What a driver holds back on purpose it lets go when a drain begins, else the
// drain would never return.
ENGINE_TEST(Drain, WhatIsHeldBackOnPurposeIsLetGo) {
  struct Throttle : TestDriver {
    using TestDriver::TestDriver;
    void OnDrainBegin() override { Release(Op::kWrite); }
  };
  auto owned = std::make_unique<Throttle>(4096);
  Throttle& throttle = *owned;
  graph->AddNode("throttle", 4096, std::move(owned));
  Backend& user = graph->Open(throttle);
  throttle.Hold(Op::kWrite);
  std::string data = Fill('a', 512);
  auto write = Start(user.Write(0, View(data)));
  Draining draining({&throttle.node()});
  co_await Settle();
  EXPECT_TRUE(write->done());
  EXPECT_TRUE(draining.begun->done());
  draining.drain.End();
}

ENGINE_TEST(Drain, EdgesWorkInside) {
  House house(graph);
  std::string data = Fill('a', 512);
  Draining draining({&house.top.node()});
  co_await Settle();
  EXPECT_IO_OK(co_await house.top.forward_to->Write(nullptr, 0, View(data)));
  EXPECT_IO_OK(co_await house.user->root().Flush());
  draining.drain.End();
}

ENGINE_TEST(Drain, ABackendMadeInsideIsBornClosed) {
  House house(graph);
  Draining draining({&house.top.node()});
  co_await Settle();
  Backend& late = graph->Open(house.base, {kConsistentRead, kAllPermissions});
  std::string data = Fill('a', 512);
  auto read = Start(late.Read(0, View(data)));
  co_await Settle();
  EXPECT_FALSE(read->done());
  draining.drain.End();
  co_await Settle();
  EXPECT_TRUE(read->done());
}

ENGINE_TEST(Drain, ABackendMayGoInside) {
  House house(graph);
  Draining draining({&house.top.node()});
  co_await Settle();
  graph->Drop(*house.other);
  draining.drain.End();
  EXPECT_FALSE(house.user->gate_closed());
}

// Many parked requests, and drains again and again: all of them end, and
// nothing is in flight inside any.
ENGINE_TEST(Drain, AgainAndAgainUnderLoad) {
  House house(graph);
  std::string data = Fill('a', 512);
  std::vector<std::shared_ptr<Started<IoStatus>>> writes;
  for (int round = 0; round < 20; ++round) {
    for (int64_t i = 0; i < 10; ++i) {
      writes.push_back(
          Start(house.user->Write(512 * (i % 8), View(data), kSerialise)));
    }
    Draining draining({&house.file.node()});
    while (!draining.begun->done()) co_await Loop::Current()->Yield();
    for (TestDriver* each : {&house.top, &house.file}) {
      EXPECT_EQ(each->node().in_flight().count(), 0);
      EXPECT_EQ(each->node().requests().count(), 0);
    }
    for (int i = 0; i < 10; ++i) {
      writes.push_back(Start(house.user->Write(0, View(data))));
    }
    draining.drain.End();
  }
  for (auto& each : writes) EXPECT_IO_OK(co_await each->Wait());
}

}  // namespace
}  // namespace bgfs
