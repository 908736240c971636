#include "graph/drain.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "graph/async/check.h"

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
  for (Node* node : nodes_) {
    backends_.insert(backends_.end(), node->backends_.begin(),
                     node->backends_.end());
  }
}

Drain::~Drain() { BGFS_CHECK(!active_); }

Task<void> Drain::Begin() {
  BGFS_CHECK(!active_);
  active_ = true;
  for (Backend* backend : backends_) backend->CloseGate();
  for (Node* node : nodes_) node->driver().OnDrainBegin();
  // With the gates closed requests only end, but one that ends may have been
  // the last on a node above while another starts below: look at all again.
  for (bool idle = false; !idle;) {
    idle = true;
    for (Backend* backend : backends_) {
      if (backend->in_flight().count() == 0) continue;
      idle = false;
      co_await backend->in_flight().WaitIdle();
    }
    for (Node* node : nodes_) {
      if (node->in_flight_.count() == 0) continue;
      idle = false;
      co_await node->in_flight_.WaitIdle();
    }
  }
}

void Drain::End() {
  BGFS_CHECK(active_);
  active_ = false;
  for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
    (*it)->driver().OnDrainEnd();
  }
  for (Backend* backend : backends_) backend->OpenGate();
}

}  // namespace bgfs
