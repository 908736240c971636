#include "tests/graph/random_changes.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "drivers/file.h"
#include "drivers/raw.h"

namespace bgfs {
namespace {

constexpr char kFilterName[] = "filter";

bool IsFilter(const Node& node) {
  return absl::StartsWith(node.name(), kFilterName);
}

}  // namespace

std::vector<Child*> RandomChanges::Edges() const {
  std::vector<Child*> edges;
  for (const auto& node : graph_.nodes()) {
    edges.insert(edges.end(), node->parents().begin(), node->parents().end());
  }
  return edges;
}

// Of those that may write to one node, none may go past what the others see.
void RandomChanges::LinkTogether(Child* edge, Node* to, Transaction* change) {
  const std::vector<Child*> users = edge->node().parents();
  for (Child* user : users) {
    if (user->parent() == edge->parent()) change->Link(user, to);
  }
}

Task<absl::Status> RandomChanges::ChangeSomething() {
  Transaction change(&graph_);
  absl::Status status;
  for (int64_t steps = random_.Between(1, 2); steps > 0; --steps) {
    // One of each kind at most: an edge or a node is changed once.
    if (!change.empty()) break;
    switch (random_.Below(5)) {
      case 0:
      case 1:
        status = co_await AddFilter(&change);
        break;
      case 2:
        DropFilter(&change);
        break;
      case 3:
        ReopenFile(&change);
        break;
      default:
        SetOptions(&change);
        break;
    }
  }
  const bool fails = random_.Chance(0.3);
  if (fails) {
    change.SetFault([at = random_.Below(12)](int step) {
      return step == at ? absl::CancelledError("injected") : absl::OkStatus();
    });
  }
  if (status.ok()) status = co_await change.Prepare();
  if (status.ok()) {
    if (random_.Chance(0.2)) {
      co_await change.Abort();
    } else {
      co_await change.Commit();
    }
  }
  status.Update(co_await graph_.CloseUnused());
  if (absl::IsCancelled(status)) co_return absl::OkStatus();
  co_return status;
}

Task<absl::Status> RandomChanges::AddFilter(Transaction* change) {
  const std::vector<Child*> edges = Edges();
  Child* const edge = edges[static_cast<size_t>(
      random_.Below(static_cast<int64_t>(edges.size())))];
  NodeOptions options;
  options.name = absl::StrCat(kFilterName, Graph::NewNodeName());
  options.unmap = true;
  Node* const filter = graph_.AddNode(
      options, std::make_unique<RawDriver>(RawDriver::Options()));
  const auto attached =
      filter->AttachChild("file", ChildRole::kFilter, &edge->node());
  if (!attached.ok()) co_return attached.status();
  absl::Status opened = co_await filter->driver().Open();
  if (opened.ok()) LinkTogether(edge, filter, change);
  co_return opened;
}

void RandomChanges::DropFilter(Transaction* change) {
  for (Child* edge : Edges()) {
    Node& node = edge->node();
    if (!IsFilter(node) || !random_.Chance(0.7)) continue;
    return LinkTogether(edge, &node.child("file")->node(), change);
  }
}

void RandomChanges::ReopenFile(Transaction* change) {
  for (const auto& node : graph_.nodes()) {
    if (node->driver().format_name() != "file" || !random_.Chance(0.7)) {
      continue;
    }
    FileDriver::Options options;
    options.filename =
        static_cast<const FileDriver&>(node->driver()).filename();
    options.direct = random_.Chance(0.5);
    return change->Reopen(node.get(), node->options(),
                          std::make_unique<FileDriver>(std::move(options)));
  }
}

void RandomChanges::SetOptions(Transaction* change) {
  const auto& nodes = graph_.nodes();
  Node* const node = nodes[static_cast<size_t>(random_.Below(
                               static_cast<int64_t>(nodes.size())))]
                         .get();
  NodeOptions options = node->options();
  options.detect_zeroes = static_cast<DetectZeroes>(random_.Below(3));
  options.unmap = true;
  change->Reopen(node, options, nullptr);
}

}  // namespace bgfs
