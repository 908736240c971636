// Exports (engine.md, 6), and backends that are called from another loop.

#include "graph/export.h"

#include "gmock/gmock.h"
#include "graph/drain.h"
#include "tests/graph/async/test_loop.h"
#include "tests/graph/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

using ::testing::HasSubstr;
using Op = TestDriver::Op;

struct Events {
  int shutdowns = 0;
  int ends = 0;
};

class TestExport : public BlockExport {
 public:
  TestExport(std::string id, std::unique_ptr<Backend> backend, Events* events)
      : BlockExport(std::move(id), std::move(backend)), events_(events) {}
  absl::string_view type() const override { return "test"; }

 protected:
  void OnShutdown() override { ++events_->shutdowns; }
  Task<void> OnLastUnref() override {
    ++events_->ends;
    co_return;
  }

 private:
  Events* events_;
};

std::unique_ptr<TestExport> MakeExport(
    TestDriver& disk, Events* events,
    PermissionSet permissions = {kConsistentRead | kWrite, kAllPermissions},
    const std::string& id = "vm1") {
  auto backend = Backend::Create("export " + id, &disk.node(), permissions);
  EXPECT_TRUE(backend.ok());
  return std::make_unique<TestExport>(id, *std::move(backend), events);
}

ENGINE_TEST(Export, LivesOnWhileClientsHoldIt) {
  TestDriver& disk = graph->Add("disk", 4096);
  Events events;
  auto exported = MakeExport(disk, &events);
  exported->Ref();
  exported->Ref();
  exported->RequestShutdown();
  EXPECT_TRUE(exported->shutting_down());
  EXPECT_EQ(events.shutdowns, 1);
  EXPECT_EQ(exported->references(), 2);
  exported->RequestShutdown();
  EXPECT_EQ(exported->references(), 2) << "the user's goes once";
  EXPECT_EQ(events.shutdowns, 1);
  exported->Unref();
  co_await Settle();
  EXPECT_EQ(events.ends, 0);
  std::string data = Fill('a', 512);
  EXPECT_IO_OK(co_await exported->backend().Write(0, View(data)));
  exported->Unref();
  EXPECT_TRUE((co_await exported->WaitClosed()).ok());
  EXPECT_EQ(events.ends, 1);
  EXPECT_TRUE(disk.node().parents().empty()) << "its rights are given up";
}

ENGINE_TEST(Export, DeletingFlushesAndWaitsForWhatIsUnderWay) {
  TestDriver& disk = graph->Add("disk", 4096);
  Events events;
  auto exported = MakeExport(disk, &events);
  disk.Hold(Op::kWrite);
  std::string data = Fill('a', 512);
  auto write = Start(exported->backend().Write(0, View(data)));
  exported->RequestShutdown();
  co_await Settle();
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 0);
  disk.Release(Op::kWrite);
  EXPECT_TRUE((co_await exported->WaitClosed()).ok());
  EXPECT_TRUE(write->done());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
}

ENGINE_TEST(Export, AFailedFlushIsTheOutcome) {
  TestDriver& disk = graph->Add("disk", 4096);
  Events events;
  auto exported = MakeExport(disk, &events);
  disk.Fail(Op::kFlushToDisk, EIO);
  exported->RequestShutdown();
  const absl::Status outcome = co_await exported->WaitClosed();
  EXPECT_FALSE(outcome.ok());
  EXPECT_THAT(std::string(outcome.message()), HasSubstr("vm1"));
  EXPECT_EQ(events.ends, 1) << "closed all the same";
}

ENGINE_TEST(Export, OfAReaderFlushesNothing) {
  TestDriver& disk = graph->Add("disk", 4096);
  Events events;
  auto exported = MakeExport(disk, &events, {kConsistentRead, kAllPermissions});
  exported->RequestShutdown();
  EXPECT_TRUE((co_await exported->WaitClosed()).ok());
  EXPECT_TRUE(disk.calls.empty());
}

ENGINE_TEST(Export, EndsInsideADrainOnlyAfterIt) {
  TestDriver& disk = graph->Add("disk", 4096);
  Events events;
  auto exported = MakeExport(disk, &events);
  Drain drain({&disk.node()});
  co_await drain.Begin();
  exported->RequestShutdown();
  co_await Settle();
  EXPECT_EQ(events.ends, 0);
  drain.End();
  EXPECT_TRUE((co_await exported->WaitClosed()).ok());
}

// --- Backends called from another loop --------------------------------------

Task<IoStatus> CallAll(Backend* user, Loop* here) {
  std::string data = Fill('a', 512);
  std::string seen = Fill('?', 512);
  BGFS_CO_TRY(co_await user->Write(0, View(data)));
  BGFS_CO_TRY(co_await user->Read(0, View(seen)));
  EXPECT_EQ(seen, data);
  BGFS_CO_TRY(co_await user->Zero(0, 512));
  BGFS_CO_TRY(co_await user->Discard(0, 512));
  BGFS_CO_TRY(co_await user->Reserve(0, 512));
  BGFS_CO_TRY(co_await user->Truncate(8192, true));
  BGFS_CO_TRY(co_await user->Flush());
  BGFS_CO_TRY((co_await user->Status(0, 512)).status());
  BGFS_CO_TRY((co_await user->AllocatedBytes()).status());
  EXPECT_TRUE(here->IsCurrent()) << "and comes back";
  co_return IoStatus();
}

// Fails the test when it runs anywhere but at home.
class AtHome : public TestDriver {
 public:
  using TestDriver::TestDriver;
  Task<IoResult<Range>> ChangeWindow(const Request& request) override {
    EXPECT_TRUE(node().home().IsCurrent());
    return TestDriver::ChangeWindow(request);
  }
  Task<IoStatus> FlushToOs() override {
    EXPECT_TRUE(node().home().IsCurrent());
    return TestDriver::FlushToOs();
  }
};

Task<void> OpenAtHome(TestGraph* graph, AtHome** disk, Backend** user) {
  auto owned = std::make_unique<AtHome>(4096);
  *disk = owned.get();
  graph->AddNode("disk", 4096, std::move(owned), Unmapping());
  *user = &graph->Open(**disk);
  co_return;
}

Task<void> CloseGraph(TestGraph* graph) { co_await graph->Close(); }

TEST(Backend, GoesHomeFromAnyLoop) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SimWorld world(seed);
    SimLoop& home = world.AddLoop("home");
    TestGraph graph(&home);
    AtHome* disk = nullptr;
    Backend* user = nullptr;
    world.Run(home, OpenAtHome(&graph, &disk, &user));
    EXPECT_IO_OK(world.Run(world.loop(), CallAll(user, &world.loop())));
    EXPECT_EQ(disk->count(Op::kFlushToOs), 1);
    world.Run(home, CloseGraph(&graph));
  }
}

// The same between threads.
TEST(Backend, GoesHomeFromAnotherThread) {
  auto home = StartLoop("home");
  auto away = StartLoop("away");
  TestGraph graph(home.get());
  AtHome* disk = nullptr;
  Backend* user = nullptr;
  BlockOn(*home, OpenAtHome(&graph, &disk, &user));
  EXPECT_IO_OK(BlockOn(*away, CallAll(user, away.get())));
  BlockOn(*home, CloseGraph(&graph));
}

}  // namespace
}  // namespace bgfs
