#include "graph/permissions.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "graph/graph.h"

namespace bgfs {
namespace {

// Post-order: children before parents.
void Visit(Node* node, absl::flat_hash_set<Node*>* seen,
           std::vector<Node*>* order) {
  if (!seen->insert(node).second) return;
  for (const auto& child : node->children()) {
    Visit(&child->node(), seen, order);
  }
  order->push_back(node);
}

PermissionSet Combine(const PermissionSet& a, const PermissionSet& b) {
  return {a.used | b.used, a.shared & b.shared};
}

absl::Status Conflict(const Node& node, const Child& user, const Child& other,
                      Permissions denied) {
  return absl::PermissionDeniedError(absl::StrCat(
      "node \"", node.name(), "\": \"", user.Describe(), "\" needs ",
      PermissionNames(denied), ", but \"", other.Describe(),
      "\" does not share ", PermissionNames(denied)));
}

}  // namespace

PermissionSet UsersOf(const Node& node) {
  PermissionSet users;
  for (const Child* edge : node.parents()) {
    users = Combine(users, edge->permissions());
  }
  return users;
}

PermissionUpdate::PermissionUpdate(Child* edge) : edge_(edge) {
  absl::flat_hash_set<Node*> seen;
  Visit(&edge->node(), &seen, &nodes_);
  std::reverse(nodes_.begin(), nodes_.end());
}

absl::Status PermissionUpdate::SetRoot(Child* root,
                                       const PermissionSet& wanted) {
  return PermissionUpdate(root).Apply(wanted);
}

absl::Status PermissionUpdate::Attach(Child* edge) {
  const Node& parent = *edge->parent();
  return PermissionUpdate(edge).Apply(
      parent.driver().ChildPermissions(*edge, UsersOf(parent)));
}

void PermissionUpdate::Detach(Child* edge) {
  PermissionUpdate(edge).Apply({0, kAllPermissions}).IgnoreError();
}

absl::Status PermissionUpdate::Apply(const PermissionSet& wanted) {
  for (Node* node : nodes_) {
    for (Child* edge : node->parents()) edge->pending_ = edge->permissions_;
  }
  edge_->pending_ = wanted;
  if (absl::Status status = Compute(); !status.ok()) return status;
  if (absl::Status status = Prepare(); !status.ok()) return status;
  Commit();
  return absl::OkStatus();
}

absl::Status PermissionUpdate::Compute() {
  for (Node* node : nodes_) {
    if (absl::Status status = CheckUsers(*node); !status.ok()) return status;
    PermissionSet users;
    for (const Child* edge : node->parents()) {
      users = Combine(users, edge->pending_);
    }
    for (const auto& child : node->children()) {
      child->pending_ = node->driver().ChildPermissions(*child, users);
    }
  }
  return absl::OkStatus();
}

absl::Status PermissionUpdate::CheckUsers(const Node& node) const {
  for (const Child* user : node.parents()) {
    const Permissions used = user->pending_.used;
    if (node.read_only() && (used & (kWrite | kResize)) != 0) {
      return absl::PermissionDeniedError(
          absl::StrCat("node \"", node.name(), "\": \"", user->Describe(),
                       "\" needs ", PermissionNames(used & (kWrite | kResize)),
                       ", but the node is read-only"));
    }
    for (const Child* other : node.parents()) {
      if (other == user) continue;
      const Permissions denied = used & ~other->pending_.shared;
      if (denied != 0) return Conflict(node, *user, *other, denied);
    }
  }
  return absl::OkStatus();
}

absl::Status PermissionUpdate::Prepare() {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    PermissionSet users;
    for (const Child* edge : nodes_[i]->parents()) {
      users = Combine(users, edge->pending_);
    }
    absl::Status status = nodes_[i]->driver().PreparePermissions(users);
    if (status.ok()) continue;
    while (i-- > 0) nodes_[i]->driver().AbortPermissions();
    return status;
  }
  return absl::OkStatus();
}

void PermissionUpdate::Commit() {
  ++edge_->node().graph().rights_epoch_;
  for (Node* node : nodes_) {
    for (Child* edge : node->parents()) edge->permissions_ = edge->pending_;
    node->driver().CommitPermissions();
  }
}

}  // namespace bgfs
