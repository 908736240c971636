#include "graph/drain.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "graph/async/check.h"
#include "graph/async/idle_timer.h"

namespace bgfs {
namespace {

void AddBelow(Node* node, absl::flat_hash_set<Node*>* seen,
              std::vector<Node*>* nodes) {
  if (!seen->insert(node).second) return;
  nodes->push_back(node);
  for (const auto& child : node->children()) {
    AddBelow(&child->node(), seen, nodes);
  }
}

}  // namespace

Drain::Drain(const std::vector<Node*>& nodes) {
  absl::flat_hash_set<Node*> seen;
  for (Node* node : nodes) AddBelow(node, &seen, &nodes_);
  // nodes_ grows while it is walked: parents of parents follow.
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const Child* edge : nodes_[i]->parents()) {
      Node* parent = edge->parent();
      if (parent != nullptr && seen.insert(parent).second) {
        nodes_.push_back(parent);
      }
    }
  }
}

Drain::~Drain() { BGFS_CHECK(!active_); }

Task<void> Drain::Begin() {
  CloseGates();
  // With the gates closed requests only end, but one that ends may have been
  // the last on a node above while another starts below: look at all again.
  while (InFlight* busy = FindBusy()) co_await busy->WaitIdle();
}

Task<bool> Drain::BeginWithin(int64_t limit_ns) {
  CloseGates();
  if (FindBusy() == nullptr) co_return true;
  late_ = false;
  IdleTimer timer(limit_ns, [this] { OnLimit(); });
  if (limit_ns > 0) timer.Touch();
  while (InFlight* busy = FindBusy()) {
    if (late_) break;
    co_await busy->WaitIdleOrKick();
  }
  co_await timer.Stop();
  if (FindBusy() == nullptr) co_return true;
  End();
  co_return false;
}

// Whoever waits looks again.
void Drain::OnLimit() {
  late_ = true;
  for (Node* node : nodes_) node->in_flight_.Kick();
}

void Drain::CloseGates() {
  BGFS_CHECK(!active_);
  active_ = true;
  for (Node* node : nodes_) {
    ++node->drains_;
    for (Backend* backend : node->backends_) backend->CloseGate();
    node->driver().OnDrainBegin();
  }
}

InFlight* Drain::FindBusy() const {
  // Not the backends': one of them may go while it is waited for.
  for (Node* node : nodes_) {
    if (node->in_flight_.count() > 0) return &node->in_flight_;
  }
  return nullptr;
}

void Drain::End() {
  BGFS_CHECK(active_);
  active_ = false;
  for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
    Node* node = *it;
    node->driver().OnDrainEnd();
    --node->drains_;
    for (Backend* backend : node->backends_) backend->OpenGate();
  }
}

}  // namespace bgfs
