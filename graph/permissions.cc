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

PermissionUpdate::PermissionUpdate(Child* edge, const PermissionSet& wanted)
    : graph_(&edge->node().graph()), wanted_({{edge, wanted}}) {
  absl::flat_hash_set<Node*> seen;
  Visit(&edge->node(), &seen, &nodes_);
  std::reverse(nodes_.begin(), nodes_.end());
}

PermissionUpdate::PermissionUpdate(Graph* graph) : graph_(graph) {
  absl::flat_hash_set<Node*> seen;
  for (const auto& node : graph->nodes()) Visit(node.get(), &seen, &nodes_);
  std::reverse(nodes_.begin(), nodes_.end());
}

absl::Status PermissionUpdate::SetRoot(Child* root,
                                       const PermissionSet& wanted) {
  return PermissionUpdate(root, wanted).Apply();
}

absl::Status PermissionUpdate::Attach(Child* edge) {
  const Node& parent = *edge->parent();
  const PermissionSet wanted =
      parent.driver().ChildPermissions(*edge, UsersOf(parent));
  return PermissionUpdate(edge, wanted).Apply();
}

void PermissionUpdate::Detach(Child* edge) {
  PermissionUpdate(edge, {0, kAllPermissions}).Apply().IgnoreError();
}

absl::Status PermissionUpdate::Apply() {
  absl::Status status = Prepare();
  if (status.ok()) Commit();
  return status;
}

absl::Status PermissionUpdate::Prepare() {
  for (Node* node : nodes_) {
    for (Child* edge : node->parents()) edge->pending_ = edge->permissions_;
  }
  for (const Wanted& item : wanted_) item.edge->pending_ = item.rights;
  if (absl::Status status = Compute(); !status.ok()) return status;
  if (absl::Status status = PrepareDrivers(); !status.ok()) return status;
  Exchange();
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

absl::Status PermissionUpdate::PrepareDrivers() {
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

// What an edge has, against what it is to have or had before.
void PermissionUpdate::Exchange() {
  ++graph_->rights_epoch_;
  for (Node* node : nodes_) {
    for (Child* edge : node->parents()) {
      std::swap(edge->permissions_, edge->pending_);
    }
  }
}

void PermissionUpdate::Commit() {
  for (Node* node : nodes_) node->driver().CommitPermissions();
}

void PermissionUpdate::Abort() {
  Exchange();
  for (Node* node : nodes_) node->driver().AbortPermissions();
}

absl::StatusOr<std::vector<Node*>> ParentsFirst(const Graph& graph) {
  absl::flat_hash_set<Node*> seen;
  std::vector<Node*> nodes;
  for (const auto& node : graph.nodes()) Visit(node.get(), &seen, &nodes);
  std::reverse(nodes.begin(), nodes.end());
  absl::flat_hash_set<const Node*> above;
  for (const Node* node : nodes) {
    above.insert(node);
    for (const auto& child : node->children()) {
      if (!above.contains(&child->node())) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("node \"", child->node().name(),
                       "\" would stand on itself, by the ", child->Describe()));
    }
  }
  return nodes;
}

}  // namespace bgfs
