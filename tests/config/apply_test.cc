// Applying a plan, and changing what is live: parts, homes, rights, and that a
// failure leaves nothing.

#include "config/apply.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/load.h"
#include "config/plan.h"
#include "config/validate.h"
#include "drivers/create.h"
#include "gmock/gmock.h"
#include "graph/async/make_loop.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

Deadline InMs(int ms) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
}

// An export without clients; one that is held does not end until it is let go.
class TestExport final : public BlockExport {
 public:
  TestExport(std::string id, std::unique_ptr<Backend> backend, int* alive)
      : BlockExport(std::move(id), std::move(backend)), alive_(alive) {
    ++*alive_;
  }
  ~TestExport() override { --*alive_; }

  absl::string_view type() const override { return "test"; }

 private:
  void OnShutdown() override {}
  Task<void> OnLastUnref() override { co_return; }

  int* const alive_;
};

Task<void> Hold(BlockExport* item) {
  item->Ref();
  co_return;
}

Task<void> LetGo(BlockExport* item) {
  item->Unref();
  co_return;
}

Plan PlanOf(const std::string& text) {
  const Source source = LoadText(text, "test", "/");
  for (const Diagnostic& mistake : Validate(source)) {
    ADD_FAILURE() << Format("test", mistake);
  }
  return MakePlan(source, [] { return Graph::NewNodeName(); });
}

Task<void> EndExport(BlockExport* item) {
  item->RequestShutdown();
  co_return;
}

Task<PermissionSet> RightsOf(BlockExport* item) {
  co_return item->backend().root().permissions();
}

Task<IoStatus> WriteTo(BlockExport* item, int64_t offset, IoView data) {
  return item->backend().Write(offset, data);
}

Task<IoStatus> ReadFrom(BlockExport* item, int64_t offset, IoView data) {
  return item->backend().Read(offset, data);
}

class ApplyTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<LiveGraph>> Apply(const std::string& text) {
    return LiveGraph::Apply(PlanOf(text), MakeFactories());
  }

  // As the daemon does it, without anything to show.
  absl::Status Change(LiveGraph* live, const std::string& text) {
    const auto change = Compare(live->plan(), PlanOf(text));
    if (!change.ok()) return change.status();
    const Factories factories = MakeFactories();
    auto update = live->Prepare(*change, factories);
    if (!update.ok()) return update.status();
    live->Commit(update->get(), factories);
    return live->Finish(*std::move(update), InMs(30000));
  }

  static void Close(LiveGraph* live) {
    live->BeginClose();
    EXPECT_TRUE(live->WaitClosed(InMs(30000)));
  }

  static BlockExport* Find(const LiveGraph& live, const std::string& id) {
    for (const auto& [number, item] : live.exports()) {
      if (item.item.id() == id) return item.block_export.get();
    }
    return nullptr;
  }

  static PermissionSet Rights(const LiveGraph& live, const std::string& id) {
    BlockExport* const item = Find(live, id);
    return BlockOn(item->backend().home(), RightsOf(item));
  }

  // What a client sees of the first bytes.
  static std::string Bytes(const LiveGraph& live, const std::string& id) {
    BlockExport* const item = Find(live, id);
    std::string bytes(4, '?');
    const IoStatus status = BlockOn(item->backend().home(),
                                    ReadFrom(item, 0, IoView(bytes.data(), 4)));
    return status.ok() ? bytes : status.ToStatus("read").ToString();
  }

  static IoStatus Write(const LiveGraph& live, const std::string& id,
                        std::string bytes) {
    BlockExport* const item = Find(live, id);
    return BlockOn(
        item->backend().home(),
        WriteTo(item, 0,
                IoView(bytes.data(), static_cast<int64_t>(bytes.size()))));
  }

  Factories MakeFactories() {
    Factories factories;
    factories.start_loop =
        [this](
            const std::string& name) -> absl::StatusOr<std::unique_ptr<Loop>> {
      loops_.push_back(name);
      return MakeLoop(name);
    };
    factories.open_node = [this](Graph* graph, const OpenNode& step) {
      opened_.push_back(step.node.node_name());
      return bgfs::OpenNode(*graph, step.node, context_);
    };
    factories.make_driver = [this](const OpenNode& step) {
      return MakeDriver(step.node, context_);
    };
    factories.node_options = OptionsOf;
    factories.write_threshold = [](const proto::Node& node) {
      return *WriteThresholdOf(node);
    };
    factories.make_export = [this](const proto::Export& item,
                                   std::unique_ptr<Backend> backend)
        -> absl::StatusOr<std::unique_ptr<BlockExport>> {
      if (item.id() == refused_) return absl::InternalError("refused");
      writethrough_.push_back(backend->writethrough());
      return std::make_unique<TestExport>(item.id(), std::move(backend),
                                          &alive_);
    };
    return factories;
  }

  OpenContext context_;
  std::string refused_;
  std::vector<std::string> loops_;
  std::vector<std::string> opened_;
  std::vector<bool> writethrough_;
  int alive_ = 0;
};

TEST_F(ApplyTest, EachPartHasAHomeOfItsOwn) {
  auto live = Apply(R"(
    exports { id: "a" node: "top" fuse {} }
    nodes { node_name: "top" raw { file_node: "below" } }
    nodes { node_name: "below" memory { size: "1M" } }
    nodes { node_name: "other" memory { size: "1M" } }
    exports { id: "b" node: "other" writable: true fuse {} }
    exports { id: "c" node: "below" fuse {} })");
  ASSERT_TRUE(live.ok()) << live.status();
  EXPECT_THAT(loops_, SizeIs(2));
  EXPECT_THAT(opened_, ElementsAre("below", "top", "other"));
  const auto& exports = (*live)->exports();
  ASSERT_THAT(exports, SizeIs(3));
  EXPECT_EQ(exports.at(0).part, exports.at(2).part);
  EXPECT_NE(exports.at(0).part, exports.at(1).part);
  for (const auto& [number, item] : exports) {
    EXPECT_EQ(&item.block_export->backend().home(), (*live)->home(item.part));
  }
  (*live)->BeginClose();
  EXPECT_TRUE((*live)->WaitClosed(InMs(30000)));
  EXPECT_EQ(alive_, 0);
  for (const auto& [number, item] : exports) EXPECT_TRUE(item.outcome.ok());
}

TEST_F(ApplyTest, ExportsTakeTheRightsTheyNeed) {
  auto live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "r" node: "a" fuse {} }
    exports { id: "w" node: "a" writable: true fuse { resizable: true } }
    exports { id: "x" node: "b" fuse {} })");
  ASSERT_TRUE(live.ok()) << live.status();
  constexpr Permissions kRead = kConsistentRead;
  constexpr Permissions kShare = kConsistentRead | kWriteUnchanged;
  EXPECT_EQ(Rights(**live, "r").used, kRead);
  EXPECT_EQ(Rights(**live, "r").shared, kAllPermissions);
  EXPECT_EQ(Rights(**live, "w").used, kRead | kWrite | kResize);
  EXPECT_EQ(Rights(**live, "w").shared, kShare);
  EXPECT_EQ(Rights(**live, "x").used, kRead);
  EXPECT_EQ(Rights(**live, "x").shared, kShare);
  Close(live->get());
}

TEST_F(ApplyTest, ExportsWriteThroughWhereTheySaySo) {
  auto live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "a" node: "a" writable: true fuse {} }
    exports { id: "b" node: "b" writable: true writethrough: true fuse {} })");
  ASSERT_TRUE(live.ok()) << live.status();
  (*live)->BeginClose();
  ASSERT_TRUE((*live)->WaitClosed(InMs(30000)));
  EXPECT_THAT(writethrough_, ElementsAre(false, true));
}

TEST_F(ApplyTest, TwoWritersOfANodeAreRefusedAndNothingIsLeft) {
  auto live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    exports { id: "v" node: "a" writable: true fuse {} }
    exports { id: "w" node: "a" writable: true fuse {} })");
  EXPECT_THAT(live.status().message(), HasSubstr("export w"));
  EXPECT_THAT(live.status().message(), HasSubstr("export v"));
  EXPECT_EQ(alive_, 0);
}

TEST_F(ApplyTest, AFailureHalfWayClosesWhatWasOpened) {
  refused_ = "b";
  auto live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "a" node: "a" writable: true fuse {} }
    exports { id: "b" node: "b" writable: true fuse {} })");
  EXPECT_EQ(live.status().message(), "refused");
  EXPECT_EQ(alive_, 0);

  opened_.clear();
  live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" raw { file { filename: "/no/such/image" } } }
    nodes { node_name: "c" memory { size: "1M" } })");
  EXPECT_THAT(live.status().message(), HasSubstr("/no/such/image"));
  EXPECT_THAT(opened_, ::testing::Not(::testing::Contains("c")));
}

TEST_F(ApplyTest, APartThatDoesNotEndKeepsNoOther) {
  auto live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "a" node: "a" fuse {} }
    exports { id: "b" node: "b" fuse {} })");
  ASSERT_TRUE(live.ok()) << live.status();
  const auto& exports = (*live)->exports();
  BlockExport* held = exports.at(0).block_export.get();
  Loop* home = (*live)->home(exports.at(0).part);
  BlockOn(*home, Hold(held));
  (*live)->BeginClose();
  EXPECT_FALSE((*live)->WaitClosed(InMs(200)));
  EXPECT_NE(exports.at(0).block_export, nullptr);
  EXPECT_EQ(exports.at(1).block_export, nullptr);
  BlockOn(*home, LetGo(held));
  EXPECT_TRUE((*live)->WaitClosed(InMs(30000)));
  EXPECT_THAT(exports.at(0).block_export, ::testing::IsNull());
}

constexpr char kOneDisk[] = R"(
    nodes { node_name: "a" memory { size: "1M" } }
    exports { id: "a" node: "a" writable: true fuse {} })";

TEST_F(ApplyTest, AFilterComesAndGoesUnderAnExport) {
  auto live = Apply(kOneDisk);
  ASSERT_TRUE(live.ok()) << live.status();
  BlockExport* const before = Find(**live, "a");
  EXPECT_TRUE(Write(**live, "a", "abcd").ok());
  ASSERT_TRUE(Change(live->get(), R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "f" raw { file_node: "a" } }
    exports { id: "a" node: "f" writable: true fuse {} })")
                  .ok());
  EXPECT_EQ(Find(**live, "a"), before) << "clients go on";
  EXPECT_EQ(before->backend().node().name(), "f");
  EXPECT_EQ(Bytes(**live, "a"), "abcd");
  EXPECT_TRUE(Write(**live, "a", "wxyz").ok());
  ASSERT_TRUE(Change(live->get(), kOneDisk).ok());
  EXPECT_EQ(before->backend().node().name(), "a");
  EXPECT_EQ(before->backend().graph().FindNode("f"), nullptr);
  EXPECT_EQ(Bytes(**live, "a"), "wxyz");
  Close(live->get());
}

TEST_F(ApplyTest, ExportsAndPartsComeAndGo) {
  auto live = Apply(kOneDisk);
  ASSERT_TRUE(live.ok()) << live.status();
  ASSERT_TRUE(Change(live->get(), R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "r" node: "a" fuse {} }
    exports { id: "b" node: "b" writable: true fuse {} })")
                  .ok());
  EXPECT_THAT(loops_, SizeIs(2));
  EXPECT_EQ(alive_, 2);
  EXPECT_EQ(Find(**live, "a"), nullptr);
  EXPECT_TRUE(Write(**live, "b", "abcd").ok());
  EXPECT_EQ(Rights(**live, "r").used, kConsistentRead);
  ASSERT_TRUE(Change(live->get(), kOneDisk).ok());
  EXPECT_EQ(alive_, 1);
  EXPECT_THAT((*live)->exports(), SizeIs(1));
  EXPECT_TRUE(Write(**live, "a", "abcd").ok());
  Close(live->get());
}

TEST_F(ApplyTest, RightsAreThoseOfTheResult) {
  auto live = Apply(kOneDisk);
  ASSERT_TRUE(live.ok()) << live.status();
  // The one goes and the other comes in one change; both at once are refused.
  ASSERT_TRUE(Change(live->get(), R"(
    nodes { node_name: "a" memory { size: "1M" } }
    exports { id: "other" node: "a" writable: true fuse {} })")
                  .ok());
  const absl::Status both = Change(live->get(), R"(
    nodes { node_name: "a" memory { size: "1M" } }
    exports { id: "other" node: "a" writable: true fuse {} }
    exports { id: "third" node: "a" writable: true fuse {} })");
  EXPECT_THAT(both.message(), HasSubstr("export other"));
  EXPECT_THAT(both.message(), HasSubstr("export third"));
  EXPECT_EQ(alive_, 1);
  EXPECT_TRUE(Write(**live, "other", "abcd").ok()) << "as before";
  Close(live->get());
}

TEST_F(ApplyTest, AChangeThatFailsLeavesAllAsItWas) {
  auto live = Apply(kOneDisk);
  ASSERT_TRUE(live.ok()) << live.status();
  EXPECT_TRUE(Write(**live, "a", "abcd").ok());
  refused_ = "b";
  EXPECT_EQ(Change(live->get(), R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "f" raw { file_node: "a" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "a" node: "f" writable: true fuse {} }
    exports { id: "b" node: "b" writable: true fuse {} })")
                .message(),
            "refused");
  EXPECT_EQ(alive_, 1);
  BlockExport* const item = Find(**live, "a");
  EXPECT_EQ(item->backend().node().name(), "a");
  EXPECT_EQ(item->backend().graph().FindNode("f"), nullptr);
  EXPECT_THAT(Change(live->get(), R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" raw { file { filename: "/no/such/image" } } }
    exports { id: "a" node: "a" fuse {} writable: true })")
                  .message(),
              HasSubstr("/no/such/image"));
  EXPECT_EQ(Bytes(**live, "a"), "abcd");
  EXPECT_TRUE(Compare((*live)->plan(), PlanOf(kOneDisk))->empty());
  Close(live->get());
}

TEST_F(ApplyTest, AbortingLetsTheClientsGoOn) {
  auto live = Apply(kOneDisk);
  ASSERT_TRUE(live.ok()) << live.status();
  const auto change = Compare((*live)->plan(), PlanOf(R"(
    nodes { node_name: "a" memory { size: "1M" } discard: UNMAP }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "b" node: "b" fuse {} })"));
  ASSERT_TRUE(change.ok()) << change.status();
  auto update = (*live)->Prepare(*change, MakeFactories());
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_THAT((*update)->added(), SizeIs(1));
  EXPECT_THAT((*update)->removed(), SizeIs(1));
  (*live)->Abort(*std::move(update));
  EXPECT_EQ(alive_, 1);
  EXPECT_TRUE(Write(**live, "a", "abcd").ok());
  Close(live->get());
}

TEST_F(ApplyTest, AnExportThatEndedByItselfIsForgotten) {
  auto live = Apply(kOneDisk);
  ASSERT_TRUE(live.ok()) << live.status();
  BlockExport* const item = Find(**live, "a");
  BlockOn(item->backend().home(), EndExport(item));
  EXPECT_TRUE((*live)->Reap(0, InMs(30000)).ok());
  EXPECT_EQ(alive_, 0);
  ASSERT_TRUE(Change(live->get(), kOneDisk).ok()) << "and comes back";
  EXPECT_EQ(alive_, 1);
  Close(live->get());
}

TEST(PendingTest, GivesTheResultOnce) {
  auto pending = Pending<int>::Call([] { return 7; });
  EXPECT_EQ(pending.WaitUntil(Deadline::max()), 7);
  EXPECT_EQ(pending.WaitUntil(InMs(1)), std::nullopt);
}

}  // namespace
}  // namespace bgfs::config
