#include "config/apply.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/diagnostic.h"
#include "graph/async/check.h"
#include "graph/backend.h"

namespace bgfs::config {
namespace {

using ExportOr = absl::StatusOr<std::unique_ptr<BlockExport>>;

Task<ExportOr> MakeExport(Graph* graph, const proto::Export* item,
                          const Factories* factories) {
  Node* node = graph->FindNode(item->node());
  BGFS_CHECK(node != nullptr);
  // It needs nothing yet, so nobody is in its way.
  auto backend = Backend::Create(absl::StrCat("export ", item->id()), node,
                                 {0, kAllPermissions});
  if (!backend.ok()) co_return backend.status();
  (*backend)->SetWritethrough(item->writethrough());
  co_return factories->make_export(*item, *std::move(backend));
}

// One that was never shown.
Task<void> Shutdown(BlockExport* item) {
  item->RequestShutdown();
  (co_await item->WaitClosed()).IgnoreError();  // nothing was written
}

// All that nobody uses, but for those of these names: also what a header named
// and no longer stands below anything.
Task<absl::Status> CloseNodes(Graph* graph, std::set<std::string> wanted) {
  absl::flat_hash_set<const Node*> keep;
  for (const auto& node : graph->nodes()) {
    if (wanted.contains(node->name())) keep.insert(node.get());
  }
  co_return co_await graph->CloseUnused(keep);
}

std::set<std::string> NamesOf(const LivePlan& plan, int part) {
  std::set<std::string> names;
  for (const OpenNode& node : plan.nodes) {
    if (node.part == part) names.insert(node.node.node_name());
  }
  return names;
}

}  // namespace

PermissionSet ExportPermissions(const proto::Export& item,
                                bool written_beside) {
  PermissionSet set{kConsistentRead, kConsistentRead | kWriteUnchanged};
  if (item.writable()) {
    set.used |= kWrite;
    if (item.fuse().resizable()) set.used |= kResize;
  } else if (written_beside) {
    set.shared |= kWrite | kResize;
  }
  return set;
}

absl::StatusOr<std::unique_ptr<LiveGraph>> LiveGraph::Apply(
    const Plan& plan, const Factories& factories) {
  auto live = std::make_unique<LiveGraph>();
  const absl::StatusOr<Change> change = Compare(live->plan(), plan);
  if (!change.ok()) return change.status();
  auto update = live->Prepare(*change, factories);
  if (!update.ok()) return update.status();
  live->Commit(update->get(), factories);
  if (absl::Status s = live->Finish(*std::move(update), Deadline::max());
      !s.ok()) {
    return s;
  }
  return live;
}

LiveGraph::~LiveGraph() {
  for (const auto& [number, item] : exports_) {
    BGFS_CHECK(item.block_export == nullptr);
  }
  for (const auto& [number, part] : parts_) BGFS_CHECK(part.graph == nullptr);
}

std::map<int, Graph*> LiveGraph::graphs() const {
  std::map<int, Graph*> graphs;
  for (const auto& [number, part] : parts_) {
    if (part.graph != nullptr) graphs[number] = part.graph.get();
  }
  return graphs;
}

absl::Status LiveGraph::StartPart(int number, const Factories& factories) {
  auto loop = factories.start_loop(absl::StrCat("bgfs-part-", number));
  if (!loop.ok()) return loop.status();
  Part part;
  part.loop = *std::move(loop);
  part.graph = std::make_unique<Graph>(part.loop.get(), factories.observer);
  parts_.emplace(number, std::move(part));
  return absl::OkStatus();
}

// --- Preparing ---------------------------------------------------------------

constexpr auto kAskEvery = std::chrono::milliseconds(50);

template <typename T>
std::optional<T> LiveGraph::Await(int part, Task<T> task,
                                  const Factories& factories) {
  auto pending = Pending<T>::Start(parts_.at(part).loop.get(), std::move(task));
  for (;;) {
    std::optional<T> result =
        pending.WaitUntil(std::chrono::steady_clock::now() + kAskEvery);
    if (result.has_value()) return result;
    if (!factories.given_up || !factories.given_up()) continue;
    parts_.at(part).hangs = true;
    return std::nullopt;
  }
}

absl::StatusOr<std::unique_ptr<LiveGraph::Update>> LiveGraph::Prepare(
    const Change& change, const Factories& factories, int64_t drain_limit_ns) {
  auto update = std::make_unique<Update>();
  update->change_ = change;
  update->factories_ = factories;
  absl::Status status =
      DoPrepare(update.get(), update->factories_, drain_limit_ns);
  if (status.ok()) return update;
  Undo(update.get());
  const bool hangs =
      std::any_of(parts_.begin(), parts_.end(),
                  [](const auto& part) { return part.second.hangs; });
  if (hangs) given_up_.push_back(std::move(update));
  return status;
}

// Those that the change touches. Others need not even answer.
absl::Status LiveGraph::TakeParts(Update* update) {
  const Change& change = update->change_;
  std::set<int> touched(update->new_parts_.begin(), update->new_parts_.end());
  for (const OpenNode& step : change.opens) touched.insert(step.part);
  for (const OpenNode& step : change.closes) touched.insert(step.part);
  for (const Change::Reopen& step : change.reopens) touched.insert(step.part);
  for (const Change::Link& step : change.links) touched.insert(step.part);
  for (const Change::ExportChange& step : change.exports) {
    touched.insert(step.part);
  }
  for (const AddExport& step : change.added) touched.insert(step.part);
  for (const AddExport& step : change.removed) touched.insert(step.part);
  for (const int number : touched) {
    const Part& part = parts_.at(number);
    const bool busy = part.closing.has_value() &&
                      absl::IsDeadlineExceeded(Collect(number, Deadline()));
    if (busy || part.hangs) {
      return absl::UnavailableError(
          "what was removed before has not ended yet; try again later");
    }
    update->work_[number].graph = part.graph.get();
  }
  return absl::OkStatus();
}

absl::Status LiveGraph::OpenNodes(const Update& update,
                                  const Factories& factories) {
  for (const OpenNode& step : update.change_.opens) {
    const auto node = Await(
        step.part, factories.open_node(parts_.at(step.part).graph.get(), step),
        factories);
    if (!node.has_value()) return absl::CancelledError("given up");
    if (!node->ok()) return node->status();
  }
  return absl::OkStatus();
}

absl::Status LiveGraph::MakeExports(Update* update,
                                    const Factories& factories) {
  for (const AddExport& step : update->change_.added) {
    const Part& part = parts_.at(step.part);
    ExportOr made = BlockOn(
        *part.loop, MakeExport(part.graph.get(), &step.item, &factories));
    if (!made.ok()) return made.status();
    const int number = next_export_++;
    exports_[number] = {step.part, step.item, *std::move(made),
                        absl::OkStatus()};
    update->added_.push_back(number);
  }
  return absl::OkStatus();
}

absl::Status LiveGraph::DoPrepare(Update* update, const Factories& factories,
                                  int64_t drain_limit_ns) {
  for (int part = plan_.parts; part < update->change_.result.parts; ++part) {
    if (absl::Status s = StartPart(part, factories); !s.ok()) return s;
    update->new_parts_.push_back(part);
  }
  if (absl::Status s = TakeParts(update); !s.ok()) return s;
  if (absl::Status s = OpenNodes(*update, factories); !s.ok()) return s;
  if (absl::Status s = MakeExports(update, factories); !s.ok()) return s;
  SetTargets(update);
  for (auto& [number, work] : update->work_) {
    const auto filled = Await(
        number, Update::Fill(update, number, &work, &exports_, &factories),
        factories);
    if (!filled.has_value()) return absl::CancelledError("given up");
    if (!filled->ok()) return *filled;
  }
  for (auto& [number, work] : update->work_) {
    if (work.transaction->empty()) continue;
    const auto prepared =
        Await(number, Update::PrepareWork(&work, drain_limit_ns), factories);
    if (!prepared.has_value()) return absl::CancelledError("given up");
    if (!prepared->ok()) return *prepared;
  }
  return absl::OkStatus();
}

// What each export is to be.
void LiveGraph::SetTargets(Update* update) const {
  const Change& change = update->change_;
  std::set<std::string> written;
  std::map<std::string, const proto::Export*> wanted;
  for (const AddExport& item : change.result.exports) {
    if (item.item.writable()) written.insert(item.item.node());
    wanted[item.item.id()] = &item.item;
  }
  std::set<std::string> removed;
  for (const AddExport& item : change.removed) removed.insert(item.item.id());
  for (const auto& [number, item] : exports_) {
    if (item.block_export == nullptr) continue;
    const auto found = wanted.find(item.item.id());
    const bool is_new = std::find(update->added_.begin(), update->added_.end(),
                                  number) != update->added_.end();
    if (!is_new && removed.contains(item.item.id())) {
      update->removed_.push_back(number);
      update->targets_[number] = {item.item, {0, kAllPermissions}};
      continue;
    }
    update->targets_[number] = {
        *found->second,
        ExportPermissions(*found->second,
                          written.contains(found->second->node()))};
  }
}

Task<absl::Status> LiveGraph::Update::Fill(
    const Update* update, int part, Work* work,
    const std::map<int, LiveExport>* exports, const Factories* factories) {
  Graph* const graph = work->graph;
  work->transaction = std::make_unique<Transaction>(graph);
  for (const Change::Reopen& reopen : update->change_.reopens) {
    if (reopen.part != part) continue;
    std::unique_ptr<Driver> driver;
    if (reopen.other_driver) {
      auto made = factories->make_driver(reopen.wanted);
      if (!made.ok()) co_return made.status();
      driver = *std::move(made);
    }
    Node* const node = graph->FindNode(reopen.wanted.node.node_name());
    work->transaction->Reopen(node, factories->node_options(reopen.wanted.node),
                              std::move(driver));
  }
  for (const Change::Link& link : update->change_.links) {
    if (link.part != part) continue;
    Node* const parent = graph->FindNode(link.parent);
    Node* const to = graph->FindNode(link.to);
    Child* const edge = parent->child(link.child);
    if (edge != nullptr) {
      work->transaction->Link(edge, to);
    } else {
      BGFS_CHECK(link.child == "backing");
      work->transaction->AddChild(parent, link.child, ChildRole::kBacking, to);
    }
  }
  for (const auto& [number, target] : update->targets_) {
    const LiveExport& item = exports->at(number);
    if (item.part != part) continue;
    Child& root = item.block_export->backend().root();
    if (target.item.node() != item.item.node()) {
      work->transaction->Link(&root, graph->FindNode(target.item.node()));
    }
    const PermissionSet& has = root.permissions();
    if (has.used != target.rights.used || has.shared != target.rights.shared) {
      work->transaction->SetRights(&root, target.rights);
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> LiveGraph::Update::PrepareWork(Work* work,
                                                  int64_t drain_limit_ns) {
  work->transaction->SetDrainLimit(drain_limit_ns);
  absl::Status status = co_await work->transaction->Prepare();
  work->prepared = status.ok();
  co_return status;
}

Task<void> LiveGraph::Update::AbortWork(Work* work) {
  if (work->prepared) co_await work->transaction->Abort();
  work->prepared = false;
  work->transaction = nullptr;
}

void LiveGraph::Abort(std::unique_ptr<Update> update) { Undo(update.get()); }

// Backwards. Nothing was written that could keep this from ending.
void LiveGraph::Undo(Update* update) {
  for (auto it = update->work_.rbegin(); it != update->work_.rend(); ++it) {
    if (parts_.at(it->first).hangs) continue;
    BlockOn(*parts_.at(it->first).loop, Update::AbortWork(&it->second));
  }
  for (auto it = update->added_.rbegin(); it != update->added_.rend(); ++it) {
    const LiveExport& item = exports_.at(*it);
    if (parts_.at(item.part).hangs) continue;
    BlockOn(*parts_.at(item.part).loop, Shutdown(item.block_export.get()));
    exports_.erase(*it);
  }
  for (const auto& [number, work] : update->work_) {
    const Part& part = parts_.at(number);
    if (part.hangs) continue;
    BlockOn(*part.loop, CloseNodes(part.graph.get(), NamesOf(plan_, number)))
        .IgnoreError();
  }
  for (const int number : update->new_parts_) {
    if (parts_.at(number).hangs) continue;
    parts_.at(number).graph = nullptr;
    parts_.erase(number);
  }
}

// --- The change itself -------------------------------------------------------

Task<void> LiveGraph::Update::CommitWork(
    const Update* update, int part, Work* work,
    const std::map<int, LiveExport>* exports, const Factories* factories) {
  if (!work->prepared) co_return;
  for (const auto& [number, target] : update->targets_) {
    const LiveExport& item = exports->at(number);
    if (item.part != part) continue;
    const bool goes =
        std::find(update->removed_.begin(), update->removed_.end(), number) !=
        update->removed_.end();
    if (goes) {
      // Who is let past us has to be cut off first: Finish() ends it.
      if (!item.item.fuse().passthrough()) {
        item.block_export->RequestShutdown(/*keep_clients=*/true);
      }
      continue;
    }
    item.block_export->backend().SetWritethrough(target.item.writethrough());
    if (factories->below_changed) {
      factories->below_changed(item.block_export.get());
    }
  }
  co_await work->transaction->Commit();
  work->prepared = false;
  for (const Change::Reopen& reopen : update->change_.reopens) {
    if (reopen.part != part ||
        reopen.was.write_threshold() == reopen.wanted.node.write_threshold()) {
      continue;
    }
    Node* const node = work->graph->FindNode(reopen.wanted.node.node_name());
    node->SetWriteThreshold(factories->write_threshold(reopen.wanted.node));
  }
}

void LiveGraph::Commit(Update* update, const Factories& factories) {
  for (auto& [number, work] : update->work_) {
    BlockOn(*parts_.at(number).loop,
            Update::CommitWork(update, number, &work, &exports_, &factories));
    work.transaction = nullptr;
  }
  for (const auto& [number, target] : update->targets_) {
    exports_.at(number).item = target.item;
  }
  plan_ = update->change_.result;
}

Task<LiveGraph::PartOutcome> LiveGraph::EndSome(
    Graph* graph, std::set<std::string> wanted,
    std::vector<BlockExport*> exports) {
  PartOutcome outcome;
  for (BlockExport* item : exports)
    item->RequestShutdown(/*keep_clients=*/true);
  for (BlockExport* item : exports) {
    outcome.exports.push_back(co_await item->WaitClosed());
  }
  outcome.graph = co_await CloseNodes(graph, std::move(wanted));
  co_return outcome;
}

absl::Status LiveGraph::Finish(std::unique_ptr<Update> update,
                               Deadline deadline) {
  for (const auto& [number, work] : update->work_) {
    Part& part = parts_.at(number);
    std::vector<BlockExport*> ending;
    for (const int removed : update->removed_) {
      if (exports_.at(removed).part != number) continue;
      part.ending.push_back(removed);
      ending.push_back(exports_.at(removed).block_export.get());
    }
    part.closing = Pending<PartOutcome>::Start(
        part.loop.get(),
        EndSome(part.graph.get(), NamesOf(plan_, number), std::move(ending)));
  }
  absl::Status status;
  for (const auto& [number, work] : update->work_) {
    status.Update(Collect(number, deadline));
  }
  Sweep();
  return status;
}

// What Finish() has begun in a part.
absl::Status LiveGraph::Collect(int number, Deadline deadline) {
  Part& part = parts_.at(number);
  std::optional<PartOutcome> outcome = part.closing->WaitUntil(deadline);
  if (!outcome.has_value()) {
    return absl::DeadlineExceededError(
        "what was removed does not end: its disk does not answer");
  }
  absl::Status status = outcome->graph;
  for (const absl::Status& each : outcome->exports) status.Update(each);
  part.closing.reset();
  for (const int ended : part.ending) {
    part.lingering.push_back(std::move(exports_.at(ended).block_export));
    exports_.erase(ended);
  }
  part.ending.clear();
  return status;
}

// Those that clients have closed, and that were never shown.
Task<void> LiveGraph::EndIdle(
    std::vector<std::unique_ptr<BlockExport>>* lingering) {
  for (size_t i = lingering->size(); i-- > 0;) {
    if ((*lingering)[i]->has_clients()) continue;
    co_await (*lingering)[i]->EndClients();
    lingering->erase(lingering->begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void LiveGraph::Sweep() {
  for (auto it = parts_.begin(); it != parts_.end();) {
    Part& part = it->second;
    if (!part.lingering.empty()) {
      BlockOn(*part.loop, EndIdle(&part.lingering));
    }
    const bool over = part.lingering.empty() && !part.closing.has_value() &&
                      part.graph != nullptr && part.graph->nodes().empty();
    if (over) part.graph = nullptr;
    it = over ? parts_.erase(it) : std::next(it);
  }
}

absl::Status LiveGraph::Reap(int number, Deadline deadline) {
  const LiveExport& item = exports_.at(number);
  auto closed = Pending<absl::Status>::Start(parts_.at(item.part).loop.get(),
                                             item.block_export->WaitClosed());
  std::optional<absl::Status> outcome = closed.WaitUntil(deadline);
  if (!outcome.has_value()) {
    return absl::DeadlineExceededError(
        absl::StrCat("export ", Quote(item.item.id()), " does not end"));
  }
  auto& planned = plan_.exports;
  planned.erase(std::remove_if(planned.begin(), planned.end(),
                               [&item](const AddExport& at) {
                                 return at.item.id() == item.item.id();
                               }),
                planned.end());
  exports_.erase(number);
  return *std::move(outcome);
}

// --- Sizes -------------------------------------------------------------------

namespace {

Task<absl::StatusOr<int64_t>> ResizeNode(BlockExport* item, int64_t size_bytes,
                                         bool shrink, int64_t drain_limit_ns) {
  Child& root = item->backend().root();
  Node& node = root.node();
  const int64_t was = node.size();
  const std::string name = absl::StrCat("node ", Quote(node.name()));
  if (node.read_only()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat(name, " is read-only: it keeps its size"));
  }
  if (size_bytes < was && !shrink) {
    co_return absl::FailedPreconditionError(absl::StrCat(
        name, " has ", was, " bytes; what lies behind ", size_bytes,
        " would be lost: if that is meant, give --shrink"));
  }
  const PermissionSet had = root.permissions();
  Transaction change(&node.graph());
  change.SetDrainLimit(drain_limit_ns);
  change.SetRights(&root, {had.used | kWrite | kResize, had.shared});
  if (absl::Status s = co_await change.Prepare(); !s.ok()) co_return s;
  IoStatus status = co_await root.Truncate(nullptr, size_bytes, /*exact=*/true,
                                           Preallocation::kOff);
  if (status.ok()) status = co_await root.Flush();
  co_await change.Abort();  // the rights; the size stays
  if (status.ok()) co_return was;
  co_return status.ToStatus(
      absl::StrCat(name, ": giving it ", size_bytes, " bytes"));
}

}  // namespace

absl::StatusOr<int64_t> LiveGraph::Resize(int number, int64_t size_bytes,
                                          bool shrink,
                                          const Factories& factories,
                                          int64_t drain_limit_ns) {
  const LiveExport& item = exports_.at(number);
  auto resized = Await(
      item.part,
      ResizeNode(item.block_export.get(), size_bytes, shrink, drain_limit_ns),
      factories);
  if (!resized.has_value()) return absl::CancelledError("given up");
  return *std::move(resized);
}

// --- The end -----------------------------------------------------------------

Task<LiveGraph::PartOutcome> LiveGraph::EndPart(
    Graph* graph, std::vector<BlockExport*> exports,
    std::vector<std::unique_ptr<BlockExport>>* lingering) {
  PartOutcome outcome;
  graph->LetGo();
  for (BlockExport* item : exports) item->RequestShutdown();
  for (BlockExport* item : exports) {
    outcome.exports.push_back(co_await item->WaitClosed());
  }
  outcome.graph = co_await graph->Close();
  for (const auto& item : *lingering) co_await item->EndClients();
  lingering->clear();
  co_return outcome;
}

void LiveGraph::BeginClose() {
  for (auto& [number, part] : parts_) {
    part.hangs =
        part.hangs || (part.closing.has_value() &&
                       absl::IsDeadlineExceeded(Collect(number, Deadline())));
    if (part.hangs) continue;
    std::vector<BlockExport*> block_exports;
    for (const auto& [index, item] : exports_) {
      if (item.part != number || item.block_export == nullptr) continue;
      part.ending.push_back(index);
      block_exports.push_back(item.block_export.get());
    }
    part.closing = Pending<PartOutcome>::Start(
        part.loop.get(),
        EndPart(part.graph.get(), std::move(block_exports), &part.lingering));
  }
}

void LiveGraph::Settle(Part* part, PartOutcome outcome) {
  part->graph = nullptr;
  for (size_t i = 0; i < part->ending.size(); ++i) {
    LiveExport& ended = exports_.at(part->ending[i]);
    ended.outcome = std::move(outcome.exports[i]);
    // What the last flush of a node could not make durable was the writers'.
    if (ended.item.writable()) ended.outcome.Update(outcome.graph);
    ended.block_export = nullptr;
  }
}

bool LiveGraph::WaitClosed(Deadline deadline) {
  bool all = true;
  for (auto& [number, part] : parts_) {
    if (part.graph == nullptr) continue;
    if (part.hangs) {
      all = false;
      continue;
    }
    std::optional<PartOutcome> outcome = part.closing->WaitUntil(deadline);
    if (outcome.has_value()) {
      Settle(&part, *std::move(outcome));
    } else {
      all = false;
    }
  }
  return all;
}

}  // namespace bgfs::config
