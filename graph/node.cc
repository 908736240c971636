#include "graph/node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "graph/permissions.h"

namespace bgfs {
namespace {

// 0 is "no limit".
template <typename T>
T MinNonZero(T a, T b) {
  if (a == 0) return b;
  if (b == 0) return a;
  return std::min(a, b);
}

void MergeTransferLimits(const Limits& child, Limits* limits) {
  limits->max_transfer = MinNonZero(limits->max_transfer, child.max_transfer);
  limits->max_hw_transfer =
      MinNonZero(limits->max_hw_transfer, child.max_hw_transfer);
  limits->opt_transfer = std::max(limits->opt_transfer, child.opt_transfer);
  limits->min_memory_alignment =
      std::max(limits->min_memory_alignment, child.min_memory_alignment);
  limits->opt_memory_alignment =
      std::max(limits->opt_memory_alignment, child.opt_memory_alignment);
  limits->max_iov = MinNonZero(limits->max_iov, child.max_iov);
  limits->max_hw_iov = MinNonZero(limits->max_hw_iov, child.max_hw_iov);
}

}  // namespace

std::string Child::Describe() const {
  if (parent_ == nullptr) return user_;
  return absl::StrCat(name_, " of ", parent_->name());
}

int64_t Child::size() const { return node_->size(); }

void Child::Freeze(std::string why) {
  ++frozen_;
  frozen_by_ = std::move(why);
}

void Child::Thaw() {
  BGFS_CHECK(frozen_ > 0);
  --frozen_;
}

Node::Node(Graph* graph, NodeOptions options, std::unique_ptr<Driver> driver)
    : graph_(graph), options_(std::move(options)), driver_(std::move(driver)) {
  driver_->node_ = this;
}

Node::~Node() {
  BGFS_CHECK(parents_.empty() && backends_.empty());
  for (const auto& child : children_) Unlink(child.get());
}

void Node::Link(Child* edge) { edge->node_->parents_.push_back(edge); }

void Node::Unlink(Child* edge) {
  auto& parents = edge->node_->parents_;
  parents.erase(std::find(parents.begin(), parents.end(), edge));
}

std::unique_ptr<Driver> Node::SwapDriver(std::unique_ptr<Driver> driver) {
  driver->node_ = this;
  status_cache_ = StatusCache();
  return std::exchange(driver_, std::move(driver));
}

Loop& Node::home() const { return graph_->home(); }

void Node::SetSize(int64_t size_bytes) {
  BGFS_CHECK(size_bytes >= 0);
  if (size_ == size_bytes) return;
  // What is new reads as zeros, and need not have done so when there was
  // something there before.
  dirty_bitmaps_.Changed(Range::FromTo(size_, size_bytes));
  dirty_bitmaps_.Cut(size_bytes);
  size_ = size_bytes;
  for (Child* edge : parents_) {
    if (edge->parent() != nullptr)
      edge->parent()->driver().OnChildResized(*edge);
  }
  for (Backend* backend : backends_) {
    if (backend->on_resize_) backend->on_resize_();
  }
}

void Node::SetWriteThreshold(int64_t threshold_bytes) {
  if (threshold_bytes == 0) return write_threshold_.Disarm();
  write_threshold_.Arm(threshold_bytes, [this](WriteThreshold::Event event) {
    GraphObserver* const observer = graph_->observer();
    if (observer != nullptr) observer->OnWriteThreshold(*this, event);
  });
}

void Node::RefreshLimits() {
  Limits limits;
  for (const auto& child : children_) {
    MergeTransferLimits(child->node().limits(), &limits);
  }
  driver_->RefreshLimits(&limits);
  limits_ = limits;
}

Child* Node::child(absl::string_view name) const {
  for (const auto& child : children_) {
    if (child->name() == name) return child.get();
  }
  return nullptr;
}

absl::StatusOr<Child*> Node::AttachChild(std::string name, ChildRole role,
                                         Node* node) {
  BGFS_CHECK(child(name) == nullptr && node->graph_ == graph_);
  children_.push_back(std::make_unique<Child>(std::move(name), role, this,
                                              /*user=*/"", node));
  Child* edge = children_.back().get();
  Link(edge);
  if (absl::Status status = PermissionUpdate::Attach(edge); !status.ok()) {
    Unlink(edge);
    children_.pop_back();
    return status;
  }
  RefreshLimits();
  return edge;
}

}  // namespace bgfs
