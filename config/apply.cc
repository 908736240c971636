#include "config/apply.h"

#include <set>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"
#include "graph/backend.h"

namespace bgfs::config {
namespace {

using ExportOr = absl::StatusOr<std::unique_ptr<BlockExport>>;

Task<ExportOr> MakeExport(Graph* graph, const proto::Export* item,
                          PermissionSet permissions,
                          const Factories* factories) {
  Node* node = graph->FindNode(item->node());
  BGFS_CHECK(node != nullptr);
  auto backend =
      Backend::Create(absl::StrCat("export ", item->id()), node, permissions);
  if (!backend.ok()) co_return backend.status();
  (*backend)->SetWritethrough(item->writethrough());
  co_return factories->make_export(*item, *std::move(backend));
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
  std::unique_ptr<LiveGraph> live(new LiveGraph);
  std::set<std::string> written;
  for (const Step& step : plan.steps) {
    const auto* add = std::get_if<AddExport>(&step);
    if (add != nullptr && add->item.writable())
      written.insert(add->item.node());
  }
  absl::Status status;
  for (int i = 0; i < plan.parts && status.ok(); ++i) {
    status = live->StartPart(i, factories);
  }
  for (const Step& step : plan.steps) {
    if (!status.ok()) break;
    if (const auto* open = std::get_if<OpenNode>(&step)) {
      status = live->Open(*open, factories);
    } else {
      const AddExport& add = std::get<AddExport>(step);
      status = live->Add(add, written.contains(add.item.node()), factories);
    }
  }
  if (status.ok()) return live;
  // Whoever asked waits for the error, and nothing was written that could
  // keep this from ending.
  live->BeginClose();
  live->WaitClosed(Deadline::max());
  return status;
}

LiveGraph::~LiveGraph() {
  for (const LiveExport& item : exports_) {
    BGFS_CHECK(item.block_export == nullptr);
  }
  for (const Part& part : parts_) BGFS_CHECK(part.graph == nullptr);
}

absl::Status LiveGraph::StartPart(int number, const Factories& factories) {
  auto loop = factories.start_loop(absl::StrCat("bgfs-part-", number));
  if (!loop.ok()) return loop.status();
  Part part;
  part.loop = *std::move(loop);
  part.graph = std::make_unique<Graph>(part.loop.get());
  parts_.push_back(std::move(part));
  return absl::OkStatus();
}

absl::Status LiveGraph::Open(const OpenNode& step, const Factories& factories) {
  const Part& part = parts_[step.part];
  return BlockOn(*part.loop, factories.open_node(part.graph.get(), step))
      .status();
}

absl::Status LiveGraph::Add(const AddExport& step, bool written_beside,
                            const Factories& factories) {
  Part& part = parts_[step.part];
  ExportOr made = BlockOn(
      *part.loop,
      MakeExport(part.graph.get(), &step.item,
                 ExportPermissions(step.item, written_beside), &factories));
  if (!made.ok()) return made.status();
  BlockExport* block_export = made->get();
  // The configuration was checked: its ids differ.
  BGFS_CHECK(table_.Add(*std::move(made)).ok());
  part.exports.push_back(exports_.size());
  exports_.push_back({step.part, step.item, block_export, absl::OkStatus()});
  return absl::OkStatus();
}

Task<LiveGraph::PartOutcome> LiveGraph::EndPart(
    Graph* graph, std::vector<BlockExport*> exports) {
  PartOutcome outcome;
  for (BlockExport* item : exports) item->RequestShutdown();
  for (BlockExport* item : exports) {
    outcome.exports.push_back(co_await item->WaitClosed());
  }
  outcome.graph = co_await graph->Close();
  co_return outcome;
}

void LiveGraph::BeginClose() {
  for (Part& part : parts_) {
    std::vector<BlockExport*> block_exports;
    block_exports.reserve(part.exports.size());
    for (size_t i : part.exports) {
      block_exports.push_back(exports_[i].block_export);
    }
    part.closing = Pending<PartOutcome>::Start(
        part.loop.get(), EndPart(part.graph.get(), std::move(block_exports)));
  }
}

void LiveGraph::Settle(Part* part, PartOutcome outcome) {
  part->graph = nullptr;
  for (size_t i = 0; i < part->exports.size(); ++i) {
    LiveExport& ended = exports_[part->exports[i]];
    ended.outcome = std::move(outcome.exports[i]);
    // What the last flush of a node could not make durable was the writers'.
    if (ended.item.writable()) ended.outcome.Update(outcome.graph);
    table_.Remove(std::exchange(ended.block_export, nullptr));
  }
}

bool LiveGraph::WaitClosed(Deadline deadline) {
  bool all = true;
  for (Part& part : parts_) {
    if (part.graph == nullptr) continue;
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
