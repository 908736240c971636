// Rights (engine.md, 4): checked over the whole graph, taken everywhere or
// nowhere, and both sides named.

#include "graph/permissions.h"

#include "gmock/gmock.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using ::testing::HasSubstr;

constexpr PermissionSet kReads = {kConsistentRead, kAllPermissions};
constexpr PermissionSet kWrites = {kConsistentRead | kWrite, kAllPermissions};
constexpr PermissionSet kAlone = {kConsistentRead | kWrite, kConsistentRead};

// A protocol that takes rights at the operating system, or cannot.
class Locking : public TestDriver {
 public:
  using TestDriver::TestDriver;
  bool busy = false;
  PermissionSet held = {0, kAllPermissions};
  int undecided = 0;

  absl::Status PreparePermissions(const PermissionSet& users) override {
    if (busy) return absl::UnavailableError("locked by another program");
    ++undecided;
    wanted_ = users;
    return absl::OkStatus();
  }
  void CommitPermissions() override {
    --undecided;
    held = wanted_;
  }
  void AbortPermissions() override { --undecided; }

 private:
  PermissionSet wanted_;
};

Locking& AddLocking(TestGraph* graph, const char* name) {
  auto owned = std::make_unique<Locking>(4096);
  Locking& driver = *owned;
  graph->AddNode(name, 4096, std::move(owned));
  return driver;
}

absl::Status Refusal(const char* user, TestDriver& driver,
                     PermissionSet permissions) {
  auto backend = Backend::Create(user, &driver.node(), permissions);
  return backend.status();
}

ENGINE_TEST(Permissions, AConflictNamesBothSides) {
  TestDriver& base = graph->Add("base", 4096);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "backing", ChildRole::kBacking, base);
  EXPECT_EQ(Refusal("export vm1", base, kWrites).message(),
            "node \"base\": \"export vm1\" needs write, but \"backing of top\" "
            "does not share write");
  EXPECT_TRUE(Refusal("export vm1", base,
                      {kConsistentRead | kWriteUnchanged, kAllPermissions})
                  .ok())
      << "a backing link shares what changes nothing";
  co_return;
}

ENGINE_TEST(Permissions, WhatTheNewcomerDoesNotShareCountsToo) {
  TestDriver& disk = graph->Add("disk", 4096);
  graph->Open(disk, kWrites);
  EXPECT_EQ(Refusal("export vm1", disk, kAlone).message(),
            "node \"disk\": \"test\" needs write, but \"export vm1\" does not "
            "share write");
  co_return;
}

ENGINE_TEST(Permissions, TwoWritersThatShare) {
  TestDriver& disk = graph->Add("disk", 4096);
  graph->Open(disk, kWrites);
  graph->Open(disk, kWrites);
  EXPECT_EQ(UsersOf(disk.node()).used, kConsistentRead | kWrite);
  co_return;
}

ENGINE_TEST(Permissions, AReadOnlyNodeGrantsNoWrite) {
  NodeOptions options;
  options.read_only = true;
  TestDriver& disk = graph->Add("disk", 4096, options);
  for (Permissions right : {kWrite, kResize}) {
    const absl::Status status =
        Refusal("export vm1", disk, {right, kAllPermissions});
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(status.message()), HasSubstr("read-only"));
  }
  EXPECT_TRUE(Refusal("export vm1", disk, kReads).ok());
  co_return;
}

ENGINE_TEST(Permissions, DefaultsByRole) {
  Locking& file = AddLocking(graph, "file");
  TestDriver& filter = graph->Add("filter", 4096);
  graph->Attach(filter, "file", ChildRole::kFilter, file);
  EXPECT_EQ(file.held.used, 0U);
  {
    Backend& user = graph->Open(filter, {kConsistentRead, kConsistentRead});
    EXPECT_EQ(file.held.used, kConsistentRead) << "a filter passes needs on";
    EXPECT_EQ(file.held.shared, kConsistentRead) << "and what is shared";
    graph->Drop(user);
  }
  EXPECT_EQ(file.held.used, 0U);
  EXPECT_EQ(file.held.shared, kAllPermissions);

  Locking& image = AddLocking(graph, "image");
  Locking& base = AddLocking(graph, "base");
  TestDriver& format = graph->Add("format", 4096);
  graph->Attach(format, "file", ChildRole::kFile, image);
  EXPECT_EQ(image.held.used, kConsistentRead | kWrite | kResize);
  EXPECT_EQ(image.held.shared, kConsistentRead | kWriteUnchanged);

  Locking& other = AddLocking(graph, "other");
  NodeOptions options;
  options.read_only = true;
  TestDriver& reader = graph->Add("reader", 4096, options);
  graph->Attach(reader, "file", ChildRole::kFile, other);
  EXPECT_EQ(other.held.used, kConsistentRead);

  graph->Attach(format, "backing", ChildRole::kBacking, base);
  EXPECT_EQ(base.held.used, kConsistentRead);
  EXPECT_EQ(base.held.shared, kConsistentRead | kWriteUnchanged);
  co_return;
}

ENGINE_TEST(Permissions, AreTakenEverywhereOrNowhere) {
  Locking& low = AddLocking(graph, "low");
  TestDriver& middle = graph->Add("middle", 4096);
  TestDriver& top = graph->Add("top", 4096);
  Child& lower = graph->Attach(middle, "file", ChildRole::kFilter, low);
  Child& upper = graph->Attach(top, "file", ChildRole::kFilter, middle);
  Backend& user = graph->Open(top, kReads);
  low.busy = true;
  EXPECT_EQ(Refusal("export vm1", top, kWrites).message(),
            "locked by another program");
  EXPECT_EQ(upper.permissions().used, kConsistentRead);
  EXPECT_EQ(lower.permissions().used, kConsistentRead);
  EXPECT_EQ(low.held.used, kConsistentRead);
  low.busy = false;
  EXPECT_TRUE(Refusal("export vm1", top, kWrites).ok());
  EXPECT_EQ(lower.permissions().used, kConsistentRead) << "it has gone again";
  graph->Drop(user);
  co_return;
}

ENGINE_TEST(Permissions, AConflictFarBelowIsFound) {
  TestDriver& low = graph->Add("low", 4096);
  TestDriver& left = graph->Add("left", 4096);
  TestDriver& right = graph->Add("right", 4096);
  graph->Attach(left, "file", ChildRole::kFilter, low);
  graph->Attach(right, "file", ChildRole::kFilter, low);
  graph->Open(left, kAlone);
  EXPECT_EQ(Refusal("export vm1", right, kWrites).message(),
            "node \"low\": \"file of right\" needs write, but \"file of left\" "
            "does not share write");
  EXPECT_TRUE(Refusal("export vm1", right, kReads).ok());
  co_return;
}

// Both ways down a diamond, each node after all of its parents.
ENGINE_TEST(Permissions, GoDownInTopologicalOrder) {
  Locking& low = AddLocking(graph, "low");
  TestDriver& side = graph->Add("side", 4096);
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(side, "file", ChildRole::kFilter, low);
  graph->Attach(top, "direct", ChildRole::kFilter, low);
  graph->Attach(top, "side", ChildRole::kFilter, side);
  Backend& user = graph->Open(top, kWrites);
  for (const Child* edge : low.node().parents()) {
    EXPECT_EQ(edge->permissions().used, kConsistentRead | kWrite);
  }
  EXPECT_EQ(low.held.used, kConsistentRead | kWrite);
  graph->Drop(user);
  EXPECT_EQ(low.held.used, 0U);
  co_return;
}

ENGINE_TEST(Permissions, ALaterOneThatFailsUndoesTheFirst) {
  Locking& first = AddLocking(graph, "first");
  Locking& second = AddLocking(graph, "second");
  TestDriver& top = graph->Add("top", 4096);
  graph->Attach(top, "a", ChildRole::kFilter, first);
  graph->Attach(top, "b", ChildRole::kFilter, second);
  for (Locking* busy : {&first, &second}) {
    busy->busy = true;
    EXPECT_FALSE(Refusal("export vm1", top, kWrites).ok());
    EXPECT_EQ(first.undecided, 0);
    EXPECT_EQ(second.undecided, 0);
    EXPECT_EQ(first.held.used, 0U);
    EXPECT_EQ(second.held.used, 0U);
    busy->busy = false;
  }
  co_return;
}

ENGINE_TEST(Permissions, AnEdgeThatIsRefusedIsNotThere) {
  TestDriver& base = graph->Add("base", 4096);
  graph->Open(base, kWrites);
  TestDriver& top = graph->Add("top", 4096);
  auto edge =
      top.node().AttachChild("backing", ChildRole::kBacking, &base.node());
  EXPECT_EQ(edge.status().message(),
            "node \"base\": \"test\" needs write, but \"backing of top\" does "
            "not share write");
  EXPECT_EQ(top.node().backing(), nullptr);
  EXPECT_EQ(base.node().parents().size(), 1U);
  co_return;
}

}  // namespace
}  // namespace bgfs
