// Applying a plan: parts, homes, rights, and that a failure leaves nothing.

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

class ApplyTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<LiveGraph>> Apply(const std::string& text) {
    const Source source = LoadText(text, "test", "/");
    const std::vector<Diagnostic> mistakes = Validate(source);
    for (const Diagnostic& mistake : mistakes) {
      ADD_FAILURE() << Format("test", mistake);
    }
    if (!mistakes.empty()) return absl::InternalError("bad test");
    const Plan plan = MakePlan(source, [] { return Graph::NewNodeName(); });
    return LiveGraph::Apply(plan, MakeFactories());
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
    factories.make_export = [this](const proto::Export& item,
                                   std::unique_ptr<Backend> backend)
        -> absl::StatusOr<std::unique_ptr<BlockExport>> {
      if (item.id() == refused_) return absl::InternalError("refused");
      rights_.push_back(backend->root().permissions());
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
  std::vector<PermissionSet> rights_;
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
  EXPECT_EQ(exports[0].part, exports[2].part);
  EXPECT_NE(exports[0].part, exports[1].part);
  for (const LiveExport& item : exports) {
    EXPECT_EQ(&item.block_export->backend().home(), (*live)->home(item.part));
  }
  (*live)->BeginClose();
  EXPECT_TRUE((*live)->WaitClosed(InMs(30000)));
  EXPECT_EQ(alive_, 0);
  for (const LiveExport& item : exports) EXPECT_TRUE(item.outcome.ok());
}

TEST_F(ApplyTest, ExportsTakeTheRightsTheyNeed) {
  auto live = Apply(R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "b" memory { size: "1M" } }
    exports { id: "r" node: "a" fuse {} }
    exports { id: "w" node: "a" writable: true fuse { resizable: true } }
    exports { id: "x" node: "b" fuse {} })");
  ASSERT_TRUE(live.ok()) << live.status();
  (*live)->BeginClose();
  ASSERT_TRUE((*live)->WaitClosed(InMs(30000)));
  constexpr Permissions kRead = kConsistentRead;
  constexpr Permissions kShare = kConsistentRead | kWriteUnchanged;
  ASSERT_THAT(rights_, SizeIs(3));
  EXPECT_EQ(rights_[0].used, kRead);
  EXPECT_EQ(rights_[0].shared, kAllPermissions);
  EXPECT_EQ(rights_[1].used, kRead | kWrite | kResize);
  EXPECT_EQ(rights_[1].shared, kShare);
  EXPECT_EQ(rights_[2].used, kRead);
  EXPECT_EQ(rights_[2].shared, kShare);
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
  BlockExport* held = exports[0].block_export;
  Loop* home = (*live)->home(exports[0].part);
  BlockOn(*home, Hold(held));
  (*live)->BeginClose();
  EXPECT_FALSE((*live)->WaitClosed(InMs(200)));
  EXPECT_NE(exports[0].block_export, nullptr);
  EXPECT_EQ(exports[1].block_export, nullptr);
  BlockOn(*home, LetGo(held));
  EXPECT_TRUE((*live)->WaitClosed(InMs(30000)));
  EXPECT_THAT(exports[0].block_export, ::testing::IsNull());
}

TEST(PendingTest, GivesTheResultOnce) {
  auto pending = Pending<int>::Call([] { return 7; });
  EXPECT_EQ(pending.WaitUntil(Deadline::max()), 7);
  EXPECT_EQ(pending.WaitUntil(InMs(1)), std::nullopt);
}

}  // namespace
}  // namespace bgfs::config
