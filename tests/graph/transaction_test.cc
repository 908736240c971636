// Changes of a graph that are made together or not at all (engine.md, 5).

#include "graph/transaction.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using ::testing::HasSubstr;
using Op = TestDriver::Op;

constexpr PermissionSet kReads = {kConsistentRead, kAllPermissions};
constexpr PermissionSet kWrites = {kConsistentRead | kWrite, kAllPermissions};

// Everything of a graph that a change could leave behind.
std::string Dump(const Graph& graph) {
  std::map<std::string, std::string> lines;
  for (const auto& node : graph.nodes()) {
    std::string& line = lines[node->name()];
    absl::StrAppend(&line, node->name(), " size ", node->size(), " ro ",
                    node->read_only(), " driver ",
                    reinterpret_cast<uintptr_t>(&node->driver()));
    std::map<std::string, std::string> edges;
    for (const auto& child : node->children()) {
      edges[child->name()] = child->node().name();
    }
    for (const auto& [name, to] : edges) {
      absl::StrAppend(&line, " ", name, "=", to);
    }
    std::map<std::string, std::string> users;
    for (const Child* edge : node->parents()) {
      users[edge->Describe()] = absl::StrCat(edge->permissions().used, "/",
                                             edge->permissions().shared);
    }
    for (const auto& [name, rights] : users) {
      absl::StrAppend(&line, " [", name, " ", rights, "]");
    }
    const Limits& limits = node->limits();
    absl::StrAppend(&line, " align ", limits.request_alignment, " max ",
                    limits.max_transfer, " drains ",
                    static_cast<const TestDriver&>(node->driver()).drains);
  }
  std::string dump;
  for (const auto& [name, line] : lines) absl::StrAppend(&dump, line, "\n");
  return dump;
}

// A filter over `below` that hands reads and writes on.
TestDriver& AddFilter(TestGraph* graph, const char* name, TestDriver& below) {
  TestDriver& filter = graph->Add(name, below.node().size());
  filter.forward_to = &graph->Attach(filter, "file", ChildRole::kFilter, below);
  return filter;
}

// A driver with a switch for every way in which it can fail.
class Reopened : public TestDriver {
 public:
  using TestDriver::TestDriver;
  absl::Status open_outcome;
  absl::Status rights_outcome;
  int64_t opened_size = 4096;
  int* closed = nullptr;
  int undecided = 0;
  std::vector<std::string> log;

  Task<absl::Status> Open() override {
    log.emplace_back("open");
    if (open_outcome.ok()) node().SetSize(opened_size);
    co_return open_outcome;
  }
  void Succeed(Driver&) override { log.emplace_back("succeed"); }
  Task<IoStatus> Inactivate() override {
    log.emplace_back(drains > 0 ? "inactivate" : "inactivate under load");
    co_return IoStatus();
  }
  absl::Status PreparePermissions(const PermissionSet&) override {
    if (!rights_outcome.ok()) return rights_outcome;
    ++undecided;
    return absl::OkStatus();
  }
  void CommitPermissions() override { --undecided; }
  void AbortPermissions() override { --undecided; }
  Task<void> Close() override {
    if (closed != nullptr) ++*closed;
    co_return;
  }
};

ENGINE_TEST(Transaction, AFilterIsInsertedUnderLoadAndDropped) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk, kWrites);
  disk.Hold(Op::kWrite);
  std::string ones = Fill('1', 512);
  auto before = Start(user.Write(0, View(ones)));
  co_await Settle();
  TestDriver& filter = AddFilter(graph, "filter", disk);
  Transaction insert(&graph->graph());
  insert.Link(&user.root(), &filter.node());
  auto prepared = Start(insert.Prepare());
  co_await Settle();
  EXPECT_FALSE(prepared->done()) << "what is under way ends first";
  auto parked = Start(user.Write(512, View(ones)));
  disk.Release(Op::kWrite);
  EXPECT_TRUE((co_await prepared->Wait()).ok());
  EXPECT_TRUE(before->done());
  co_await Settle();
  EXPECT_FALSE(parked->done()) << "clients wait until it is decided";
  co_await insert.Commit();
  EXPECT_IO_OK(co_await parked->Wait());
  EXPECT_EQ(filter.count(Op::kWrite), 1) << "only what came after";
  EXPECT_EQ(disk.count(Op::kWrite), 2);
  EXPECT_EQ(UsersOf(disk.node()).used, kConsistentRead | kWrite);

  Transaction drop(&graph->graph());
  drop.Link(&user.root(), &disk.node());
  EXPECT_TRUE((co_await drop.Prepare()).ok());
  co_await drop.Commit();
  EXPECT_TRUE((co_await graph->graph().CloseUnused()).ok());
  EXPECT_EQ(graph->graph().FindNode("filter"), nullptr);
  EXPECT_IO_OK(co_await user.Write(1024, View(ones)));
  EXPECT_EQ(disk.count(Op::kWrite), 3);
}

ENGINE_TEST(Transaction, WhatWasWrittenTheOldWayIsFlushed) {
  TestDriver& old = graph->Add("old", 4096);
  TestDriver& other = graph->Add("other", 4096);
  Backend& user = graph->Open(old, kWrites);
  std::string ones = Fill('1', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(ones)));
  const int flushes = old.count(Op::kFlushToDisk);
  Transaction change(&graph->graph());
  change.Link(&user.root(), &other.node());
  EXPECT_TRUE((co_await change.Prepare()).ok());
  co_await change.Commit();
  EXPECT_EQ(old.count(Op::kFlushToDisk), flushes + 1)
      << "a later flush would not reach it";
}

ENGINE_TEST(Transaction, WhoLosesTheRightToWriteIsFlushed) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk, kWrites);
  std::string ones = Fill('1', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(ones)));
  Transaction change(&graph->graph());
  change.SetRights(&user.root(), kReads);
  EXPECT_TRUE((co_await change.Prepare()).ok());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
  co_await change.Commit();
  EXPECT_IO_ERROR(co_await user.Write(0, View(ones)), EPERM);
}

ENGINE_TEST(Transaction, LimitsAreThoseOfTheResult) {
  Limits small;
  small.max_transfer = 512;
  TestDriver& disk = graph->Add("disk", 4096);
  TestDriver& other = graph->Add("other", 4096, small);
  TestDriver& top = graph->Add("top", 4096);
  Child& edge = graph->Attach(top, "file", ChildRole::kFile, disk);
  EXPECT_EQ(top.node().limits().max_transfer, 0);
  Transaction change(&graph->graph());
  change.Link(&edge, &other.node());
  EXPECT_TRUE((co_await change.Prepare()).ok());
  co_await change.Commit();
  EXPECT_EQ(top.node().limits().max_transfer, 512);
}

ENGINE_TEST(Transaction, AFlushThatFailsRefusesIt) {
  TestDriver& old = graph->Add("old", 4096);
  TestDriver& other = graph->Add("other", 4096);
  Backend& user = graph->Open(old, kWrites);
  old.Fail(Op::kFlushToDisk, ENOSPC);
  Transaction change(&graph->graph());
  change.Link(&user.root(), &other.node());
  const absl::Status status = co_await change.Prepare();
  EXPECT_THAT(std::string(status.message()), HasSubstr("node \"old\""));
  EXPECT_EQ(&user.node(), &old.node());
}

ENGINE_TEST(Transaction, RightsAreThoseOfTheResult) {
  TestDriver& base = graph->Add("base", 4096);
  TestDriver& top = graph->Add("top", 4096);
  Backend& writer = graph->Open(base, kWrites);
  const std::string before = Dump(graph->graph());
  {
    Transaction change(&graph->graph());
    change.AddChild(&top.node(), "backing", ChildRole::kBacking, &base.node());
    const absl::Status status = co_await change.Prepare();
    EXPECT_EQ(status.message(),
              "node \"base\": \"test\" needs write, but \"backing of top\" "
              "does not share write");
    EXPECT_EQ(Dump(graph->graph()), before);
  }
  Transaction change(&graph->graph());
  change.AddChild(&top.node(), "backing", ChildRole::kBacking, &base.node());
  change.SetRights(&writer.root(), kReads);
  EXPECT_TRUE((co_await change.Prepare()).ok())
      << "the writer goes in the same change";
  co_await change.Commit();
  EXPECT_EQ(writer.root().permissions().used, kConsistentRead);
  EXPECT_EQ(UsersOf(base.node()).shared, kConsistentRead | kWriteUnchanged);
}

ENGINE_TEST(Transaction, WhatIsFrozenIsRefused) {
  TestDriver& base = graph->Add("base", 4096);
  TestDriver& other = graph->Add("other", 4096);
  TestDriver& top = graph->Add("top", 4096);
  Child& edge = graph->Attach(top, "backing", ChildRole::kBacking, base);
  edge.Freeze("job \"commit1\" works on it");
  Transaction link(&graph->graph());
  link.Link(&edge, &other.node());
  EXPECT_EQ((co_await link.Prepare()).message(),
            "node \"base\": \"backing of top\" cannot be changed: job "
            "\"commit1\" works on it");
  Transaction drop(&graph->graph());
  drop.DropChild(&edge);
  EXPECT_FALSE((co_await drop.Prepare()).ok());
  Transaction reopen(&graph->graph());
  NodeOptions options = base.node().options();
  reopen.Reopen(&base.node(), options, std::make_unique<TestDriver>(4096));
  EXPECT_FALSE((co_await reopen.Prepare()).ok());
  edge.Thaw();
  Transaction thawed(&graph->graph());
  thawed.Link(&edge, &other.node());
  EXPECT_TRUE((co_await thawed.Prepare()).ok());
  co_await thawed.Commit();
}

ENGINE_TEST(Transaction, NothingStandsOnItself) {
  TestDriver& disk = graph->Add("disk", 4096);
  TestDriver& filter = AddFilter(graph, "filter", disk);
  const std::string before = Dump(graph->graph());
  Transaction change(&graph->graph());
  change.AddChild(&disk.node(), "file", ChildRole::kFilter, &filter.node());
  const absl::Status status = co_await change.Prepare();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("stand on itself"));
  EXPECT_EQ(Dump(graph->graph()), before);
}

ENGINE_TEST(Transaction, ANodeIsReopenedWithAnotherDriver) {
  auto owned = std::make_unique<Reopened>(4096);
  Reopened* old = owned.get();
  NodeOptions read_only;
  read_only.read_only = true;
  Node& node = graph->AddNode("disk", 4096, std::move(owned), read_only);
  Backend& user = graph->Open(*old, kReads);
  int old_closed = 0;
  old->closed = &old_closed;
  auto next = std::make_unique<Reopened>(8192);
  Reopened* fresh = next.get();
  fresh->opened_size = 8192;
  NodeOptions options = node.options();
  options.read_only = false;
  Transaction change(&graph->graph());
  change.Reopen(&node, options, std::move(next));
  change.SetRights(&user.root(), kWrites);
  int resized = 0;
  user.SetOnResize([&resized] { ++resized; });
  EXPECT_TRUE((co_await change.Prepare()).ok());
  EXPECT_EQ(old_closed, 0) << "it may have to go on";
  co_await change.Commit();
  EXPECT_EQ(old_closed, 1);
  EXPECT_EQ(&node.driver(), fresh);
  EXPECT_THAT(fresh->log, testing::ElementsAre("succeed", "open"));
  EXPECT_EQ(fresh->undecided, 0);
  EXPECT_EQ(fresh->drains, 0);
  EXPECT_EQ(user.size(), 8192);
  EXPECT_EQ(resized, 1);
  std::string ones = Fill('1', 512);
  EXPECT_IO_OK(co_await user.Write(4096, View(ones)));
  EXPECT_EQ(co_await ReadBytes(&user, 4096, 512), ones);
}

ENGINE_TEST(Transaction, ADriverIsInactiveBeforeAnotherOpens) {
  auto owned = std::make_unique<Reopened>(4096);
  Reopened* old = owned.get();
  Node& node = graph->AddNode("disk", 4096, std::move(owned));
  Transaction change(&graph->graph());
  auto next = std::make_unique<Reopened>(4096);
  next->open_outcome = absl::UnavailableError("not there");
  change.Reopen(&node, node.options(), std::move(next));
  EXPECT_EQ((co_await change.Prepare()).message(), "node \"disk\": not there");
  EXPECT_THAT(old->log, testing::ElementsAre("inactivate"))
      << "once, when drained";
  EXPECT_EQ(old->count(Op::kFlushToDisk), 1) << "the second had nothing new";
  EXPECT_EQ(old->drains, 0);
  EXPECT_EQ(&node.driver(), old);
}

ENGINE_TEST(Transaction, WhatDoesNotEndInTimeIsLeftAlone) {
  TestDriver& disk = graph->Add("disk", 4096);
  TestDriver& other = graph->Add("other", 4096);
  Backend& user = graph->Open(disk, kWrites);
  disk.Hold(Op::kRead);
  auto read = Start(ReadBytes(&user, 0, 512));
  co_await Settle();
  Transaction change(&graph->graph());
  change.SetDrainLimit(1'000'000);
  change.Link(&user.root(), &other.node());
  EXPECT_EQ((co_await change.Prepare()).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(user.gate_closed());
  EXPECT_EQ(disk.drains, 0);
  disk.Release(Op::kRead);
  EXPECT_EQ((co_await read->Wait()).size(), 512U);
}

// Two chains, and a change of everything that can be changed at once.
struct Everything {
  explicit Everything(TestGraph* graph) : graph(graph) {
    auto owned = std::make_unique<Reopened>(4096);
    file = owned.get();
    graph->AddNode("file", 4096, std::move(owned));
    base = &graph->Add("base", 4096);
    other_base = &graph->Add("other-base", 4096);
    top = &graph->Add("top", 4096);
    top_file = &graph->Attach(*top, "file", ChildRole::kFile, *file);
    top_base = &graph->Attach(*top, "backing", ChildRole::kBacking, *base);
    filter = &AddFilter(graph, "filter", *top);
    beside = &graph->Add("beside", 4096);
    old_child = &graph->Attach(*beside, "old", ChildRole::kBacking, *base);
    user = &graph->Open(*top, kWrites);
    reader = &graph->Open(*base, kReads);
  }

  void Fill(Transaction* change, Reopened** fresh) {
    change->Link(&user->root(), &filter->node());
    change->Link(top_base, &other_base->node());
    change->DropChild(old_child);
    change->AddChild(&beside->node(), "new", ChildRole::kBacking,
                     &other_base->node());
    NodeOptions options = file->node().options();
    options.unmap = true;
    options.name = "renamed";
    auto next = std::make_unique<Reopened>(8192);
    next->opened_size = 8192;
    *fresh = next.get();
    change->Reopen(&file->node(), options, std::move(next));
    change->SetRights(&user->root(), {kAllPermissions, kAllPermissions});
    change->SetRights(&reader->root(), kReads);
  }

  TestGraph* graph;
  Reopened* file;
  TestDriver* top;
  TestDriver* base;
  TestDriver* other_base;
  TestDriver* filter;
  TestDriver* beside;
  Child* top_file;
  Child* top_base;
  Child* old_child;
  Backend* user;
  Backend* reader;
};

// Fails each step in turn, and looks whether all is as it was.
ENGINE_TEST(Transaction, AStepThatFailsLeavesNothingBehind) {
  Everything all(graph);
  const std::string before = Dump(graph->graph());
  int failed_at = 0;
  for (bool done = false; !done; ++failed_at) {
    Transaction change(&graph->graph());
    Reopened* fresh = nullptr;
    all.Fill(&change, &fresh);
    change.SetFault([failed_at](int step) {
      return step == failed_at ? absl::InternalError("injected")
                               : absl::OkStatus();
    });
    const absl::Status status = co_await change.Prepare();
    if (status.ok()) {
      co_await change.Abort();
      done = true;
    } else {
      EXPECT_EQ(status.message(), "injected") << failed_at;
    }
    EXPECT_EQ(Dump(graph->graph()), before) << "step " << failed_at;
    EXPECT_FALSE(all.user->gate_closed());
    EXPECT_EQ(all.file->undecided, 0);
    std::string ones = Fill('1', 512);
    EXPECT_IO_OK(co_await all.user->Write(0, View(ones)));
  }
  EXPECT_GE(failed_at, 9) << "every kind of step has its turn";
}

ENGINE_TEST(Transaction, RightsThatAreRefusedLeaveNothingBehind) {
  Everything all(graph);
  const std::string before = Dump(graph->graph());
  Transaction change(&graph->graph());
  Reopened* fresh = nullptr;
  all.Fill(&change, &fresh);
  fresh->rights_outcome = absl::UnavailableError("locked by another program");
  EXPECT_EQ((co_await change.Prepare()).message(), "locked by another program");
  EXPECT_EQ(Dump(graph->graph()), before);
}

ENGINE_TEST(Transaction, EverythingAtOnce) {
  Everything all(graph);
  Transaction change(&graph->graph());
  Reopened* fresh = nullptr;
  all.Fill(&change, &fresh);
  EXPECT_TRUE((co_await change.Prepare()).ok());
  co_await change.Commit();
  EXPECT_EQ(&all.user->node(), &all.filter->node());
  EXPECT_EQ(&all.top->node().backing()->node(), &all.other_base->node());
  EXPECT_EQ(all.beside->node().child("old"), nullptr);
  EXPECT_NE(all.beside->node().child("new"), nullptr);
  EXPECT_EQ(&graph->graph().FindNode("renamed")->driver(), fresh);
  EXPECT_TRUE(all.user->resizable());
  // Children come before their parents again.
  std::map<const Node*, size_t> place;
  for (const auto& node : graph->graph().nodes()) {
    place.emplace(node.get(), place.size());
  }
  for (const auto& node : graph->graph().nodes()) {
    for (const auto& child : node->children()) {
      EXPECT_LT(place[&child->node()], place[node.get()]);
    }
  }
}

ENGINE_TEST(Transaction, WhoIsOnItsWayOutIsToldSoAtTheGate) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend& user = graph->Open(disk, kWrites);
  std::string ones = Fill('1', 512);
  EXPECT_IO_OK(co_await user.Write(0, View(ones)));
  Transaction change(&graph->graph());
  change.SetRights(&user.root(), {0, kAllPermissions});
  EXPECT_TRUE((co_await change.Prepare()).ok());
  auto parked = Start(user.Write(0, View(ones)));
  auto flush = Start(user.Flush());
  co_await Settle();
  EXPECT_FALSE(parked->done());
  user.Refuse(ESHUTDOWN);
  EXPECT_IO_ERROR(co_await parked->Wait(), ESHUTDOWN);
  co_await Settle();
  EXPECT_FALSE(flush->done()) << "a flush waits for the end of the drain";
  co_await change.Commit();
  EXPECT_IO_OK(co_await flush->Wait());
  EXPECT_EQ(disk.count(Op::kWrite), 1);
}

}  // namespace
}  // namespace bgfs
