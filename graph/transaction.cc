#include "graph/transaction.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graph/async/check.h"

namespace bgfs {
namespace {

constexpr Permissions kWrites = kWrite | kWriteUnchanged;

// Whether filters lead from `node` down to `target`.
bool FiltersLeadTo(const Node* node, const Node* target) {
  while (node != target) {
    const Node* next = nullptr;
    for (const auto& child : node->children()) {
      if (child->role() == ChildRole::kFilter) next = &child->node();
    }
    if (next == nullptr) return false;
    node = next;
  }
  return true;
}

// By its name, or by its place where that was generated.
std::string Describe(const Node& node) {
  if (!absl::StartsWith(node.name(), "#") || node.parents().empty()) {
    return absl::StrCat("node \"", node.name(), "\"");
  }
  return absl::StrCat("the ", node.parents().front()->Describe());
}

absl::Status Frozen(const Child& edge) {
  return absl::FailedPreconditionError(
      absl::StrCat("node \"", edge.node().name(), "\": \"", edge.Describe(),
                   "\" cannot be changed: ", edge.frozen_by()));
}

}  // namespace

Transaction::~Transaction() { BGFS_CHECK(exchanged_ == 0); }

// --- What is wanted ----------------------------------------------------------

void Transaction::Link(Child* edge, Node* to) {
  BGFS_CHECK(&to->graph() == graph_);
  Step step;
  step.kind = Step::Kind::kLink;
  step.edge = edge;
  step.node = to;
  steps_.push_back(std::move(step));
}

void Transaction::AddChild(Node* parent, std::string name, ChildRole role,
                           Node* child) {
  Step step;
  step.kind = Step::Kind::kAddChild;
  step.node = parent;
  step.owned =
      std::make_unique<Child>(std::move(name), role, parent, "", child);
  step.edge = step.owned.get();
  steps_.push_back(std::move(step));
}

void Transaction::DropChild(Child* edge) {
  Step step;
  step.kind = Step::Kind::kDropChild;
  step.edge = edge;
  step.node = edge->parent();
  steps_.push_back(std::move(step));
}

void Transaction::SetRights(Child* root, const PermissionSet& rights) {
  rights_.push_back({root, rights});
}

void Transaction::Reopen(Node* node, NodeOptions options,
                         std::unique_ptr<Driver> driver) {
  Step step;
  step.kind = Step::Kind::kReopen;
  step.node = node;
  step.options = std::move(options);
  step.other_driver = driver != nullptr;
  step.driver = std::move(driver);
  steps_.push_back(std::move(step));
}

// --- Preparing ---------------------------------------------------------------

absl::Status Transaction::Fault() {
  return fault_ ? fault_(fault_step_++) : absl::OkStatus();
}

Task<absl::Status> Transaction::Prepare() {
  BGFS_CHECK(drain_ == nullptr && exchanged_ == 0);
  fault_step_ = 0;
  if (absl::Status status = CheckFrozen(); !status.ok()) co_return status;
  // Once before anybody waits, so that little is left to do while they do.
  if (absl::Status status = co_await SettleBefore(); !status.ok()) {
    co_return status;
  }
  absl::Status status = co_await Begin();
  if (status.ok()) status = co_await Change();
  if (!status.ok()) co_await Undo();
  co_return status;
}

absl::Status Transaction::CheckFrozen() const {
  for (const Step& step : steps_) {
    if (step.edge != nullptr && step.edge->frozen()) return Frozen(*step.edge);
    if (!step.other_driver) continue;
    for (const Child* edge : step.node->parents()) {
      if (edge->frozen()) return Frozen(*edge);
    }
  }
  return absl::OkStatus();
}

Task<absl::Status> Transaction::Begin() {
  std::vector<Node*> touched;
  for (const Step& step : steps_) {
    if (step.edge != nullptr) touched.push_back(&step.edge->node());
    touched.push_back(step.node);
  }
  for (const Rights& item : rights_) touched.push_back(&item.root->node());
  drain_ = std::make_unique<Drain>(touched);
  if (co_await drain_->BeginWithin(drain_limit_ns_)) co_return absl::OkStatus();
  drain_ = nullptr;
  co_return absl::DeadlineExceededError(
      "requests that are under way do not end; nothing was changed");
}

Task<absl::Status> Transaction::Change() {
  if (absl::Status status = co_await SettleBefore(); !status.ok()) {
    co_return status;
  }
  for (Step& step : steps_) {
    if (absl::Status status = Fault(); !status.ok()) co_return status;
    if (step.kind == Step::Kind::kReopen) step.old_size = step.node->size();
    Exchange(&step);
    ++exchanged_;
  }
  const auto order = ParentsFirst(*graph_);
  if (!order.ok()) co_return order.status();
  absl::Status status = co_await OpenNew(/*protocols=*/true);
  if (!status.ok()) co_return status;
  if (status = Fault(); !status.ok()) co_return status;
  auto permissions = std::make_unique<PermissionUpdate>(graph_);
  for (const Rights& item : rights_) permissions->Want(item.root, item.wanted);
  if (status = permissions->Prepare(); !status.ok()) co_return status;
  permissions_ = std::move(permissions);
  RefreshLimits();
  status = co_await OpenNew(/*protocols=*/false);
  if (!status.ok()) co_return status;
  RefreshLimits();
  co_return Fault();
}

// What was written the old way is durable, and complete on the disk for whoever
// opens it anew.
Task<absl::Status> Transaction::SettleBefore() {
  const auto order = ParentsFirst(*graph_);
  if (!order.ok()) co_return order.status();
  absl::flat_hash_set<const Node*> flushed;
  absl::flat_hash_set<const Node*> settled;
  for (const Step& step : steps_) {
    if (step.other_driver) settled.insert(step.node);
    if (step.edge == nullptr || step.kind == Step::Kind::kAddChild) continue;
    if ((step.edge->permissions().used & kWrites) == 0) continue;
    const Node* const from = &step.edge->node();
    if (step.kind == Step::Kind::kLink &&
        (FiltersLeadTo(from, step.node) || FiltersLeadTo(step.node, from))) {
      continue;
    }
    flushed.insert(from);
  }
  for (const Rights& item : rights_) {
    const Permissions lost =
        item.root->permissions().used & ~item.wanted.used & kWrites;
    if (lost != 0) flushed.insert(&item.root->node());
  }
  for (Node* node : *order) {
    const bool settles = settled.contains(node);
    if ((!settles && !flushed.contains(node)) || node->read_only()) continue;
    if (absl::Status status = Fault(); !status.ok()) co_return status;
    IoStatus status = co_await FlushNode(*node);
    if (status.ok() && settles && drain_ != nullptr) {
      status = co_await node->driver().Inactivate();
    }
    if (!status.ok()) {
      co_return status.ToStatus(absl::StrCat(
          "node \"", node->name(), "\": what was written is not durable"));
    }
  }
  co_return absl::OkStatus();
}

void Transaction::LinkTo(Step* step) {
  Child* const edge = step->edge;
  Node* const from = &edge->node();
  Node* const to = step->node;
  Node::Unlink(edge);
  edge->node_ = to;
  Node::Link(edge);
  step->node = from;
  if (edge->parent() == nullptr) {
    auto& backends = from->backends_;
    const auto found = std::find_if(
        backends.begin(), backends.end(),
        [edge](const Backend* backend) { return &backend->root() == edge; });
    BGFS_CHECK(found != backends.end() && from->drains_ == to->drains_);
    Backend* const backend = *found;
    backends.erase(found);
    to->backends_.push_back(backend);
    if (from->size() != to->size() && backend->on_resize_) {
      backend->on_resize_();
    }
  } else if (from->size() != to->size()) {
    edge->parent()->driver().OnChildResized(*edge);
  }
}

void Transaction::Exchange(Step* step) {
  switch (step->kind) {
    case Step::Kind::kLink:
      LinkTo(step);
      break;
    case Step::Kind::kAddChild:
    case Step::Kind::kDropChild: {
      auto& children = step->node->children_;
      if (step->owned != nullptr) {
        children.push_back(std::move(step->owned));
        Node::Link(step->edge);
        break;
      }
      const auto found = std::find_if(children.begin(), children.end(),
                                      [step](const std::unique_ptr<Child>& at) {
                                        return at.get() == step->edge;
                                      });
      Node::Unlink(step->edge);
      step->owned = std::move(*found);
      children.erase(found);
      break;
    }
    case Step::Kind::kReopen: {
      Node* const node = step->node;
      std::swap(node->options_, step->options);
      if (!step->other_driver) break;
      for (int i = 0; i < node->drains_; ++i) step->driver->OnDrainBegin();
      step->driver = node->SwapDriver(std::move(step->driver));
      for (int i = 0; i < node->drains_; ++i) step->driver->OnDrainEnd();
      break;
    }
  }
}

Task<absl::Status> Transaction::OpenNew(bool protocols) {
  absl::StatusOr<std::vector<Node*>> order = ParentsFirst(*graph_);
  BGFS_CHECK(order.ok());
  std::reverse(order->begin(), order->end());
  for (Node* node : *order) {
    if (node->children().empty() != protocols) continue;
    for (Step& step : steps_) {
      if (step.node != node || !step.other_driver || step.opened) continue;
      if (absl::Status status = Fault(); !status.ok()) co_return status;
      step.opened = true;
      node->driver().Succeed(*step.driver);
      absl::Status status = co_await node->driver().Open();
      if (!status.ok()) {
        co_return absl::Status(
            status.code(),
            absl::StrCat(Describe(*node), ": ", status.message()));
      }
    }
  }
  co_return absl::OkStatus();
}

void Transaction::RefreshLimits() {
  const auto order = ParentsFirst(*graph_);
  BGFS_CHECK(order.ok());
  for (auto node = order->rbegin(); node != order->rend(); ++node) {
    (*node)->RefreshLimits();
  }
}

// --- The end -----------------------------------------------------------------

Task<void> Transaction::Undo() {
  if (permissions_ != nullptr) permissions_->Abort();
  permissions_ = nullptr;
  // New drivers go while their children are still there, parents first.
  const auto order = ParentsFirst(*graph_);
  if (order.ok()) {
    for (Node* node : *order) {
      for (const Step& step : steps_) {
        if (step.node != node || !step.opened) continue;
        co_await node->driver().Close();
      }
    }
  }
  while (exchanged_ > 0) {
    Step& step = steps_[--exchanged_];
    Exchange(&step);
    step.opened = false;
    if (step.other_driver) step.node->SetSize(step.old_size);
  }
  if (drain_ == nullptr) co_return;
  RefreshLimits();
  drain_->End();
  drain_ = nullptr;
}

Task<void> Transaction::Abort() {
  BGFS_CHECK(drain_ != nullptr);
  co_await Undo();
}

Task<void> Transaction::Commit() {
  BGFS_CHECK(drain_ != nullptr && permissions_ != nullptr);
  permissions_->Commit();
  permissions_ = nullptr;
  for (Step& step : steps_) {
    if (!step.other_driver) continue;
    // The new one may have more to flush than it knows of.
    ++step.node->write_generation_;
    co_await step.driver->Close();
    step.driver = nullptr;
  }
  exchanged_ = 0;
  steps_.clear();
  rights_.clear();
  graph_->SortNodes();
  drain_->End();
  drain_ = nullptr;
}

}  // namespace bgfs
