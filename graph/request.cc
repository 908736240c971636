#include "graph/request.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "graph/async/check.h"
#include "graph/node.h"

namespace bgfs {
namespace {

// A fixed mixing of the order of arrival (splitmix64): a treap needs its
// priorities spread, and runs must replay.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

const char* KindName(const Request& request) {
  switch (request.kind()) {
    case RequestKind::kRead:
      return "read";
    case RequestKind::kWrite:
      return request.is_zero() ? "zero" : "write";
    case RequestKind::kDiscard:
      return "discard";
    case RequestKind::kTruncate:
      return "truncate";
  }
  return "request";
}

void Print(const char* what, const Request& request) {
  std::fprintf(stderr,
               "  %s: %s [%lld, +%lld) on node \"%s\", claim [%lld, +%lld), "
               "%s, %s\n",
               what, KindName(request),
               static_cast<long long>(request.range().offset),
               static_cast<long long>(request.range().bytes),
               request.node().name().c_str(),
               static_cast<long long>(request.claim().offset),
               static_cast<long long>(request.claim().bytes),
               request.serialising() ? "serialising" : "not serialising",
               request.running() ? "running" : "waiting");
}

}  // namespace

Request::Request(Node& node, Request* parent, RequestKind kind, Range range,
                 RequestFlags flags)
    : node_(node),
      parent_(parent),
      kind_(kind),
      flags_(flags),
      range_(range),
      claim_(range) {
  node_.requests().Add(this);
}

Request::~Request() {
  node_.requests().Remove(this);
  waiters_.WakeAll();
}

void Request::Claim(Range window) {
  BGFS_CHECK(!running_);
  const Range claim = claim_.Union(window);
  if (serialising_ && claim_.Contains(claim)) return;
  node_.requests().MakeSerialising(this, claim);
}

Request* Request::FindBlocker() {
  RequestTracker& tracker = node_.requests();
  if (tracker.serialising_count_ == 0) return nullptr;
  const auto& [waiting, running] = tracker.serialising_;
  Request* blocker = waiting.FindLatest(claim_, order_, nullptr);
  if (!serialising_) {
    return blocker != nullptr ? blocker : running.FindAny(claim_);
  }
  tracker.IndexAll();
  const auto& [others_waiting, others_running] = tracker.others_;
  blocker = others_waiting.FindLatest(claim_, order_, blocker);
  if (blocker == nullptr) blocker = running.FindAny(claim_);
  if (blocker == nullptr) blocker = others_running.FindAny(claim_);
  return blocker;
}

bool Request::ConflictsWith(const Request& other) const {
  return (serialising_ || other.serialising_) && claim_.Overlaps(other.claim_);
}

Task<void> Request::WaitFor(Request* blocker) {
  // Any ancestor in the way, not only `blocker`: what it waits for first may be
  // one that waits for the ancestor in turn.
  for (const Request* ancestor = parent_; ancestor != nullptr;
       ancestor = ancestor->parent_) {
    if (&ancestor->node_ != &node_ || !ConflictsWith(*ancestor)) continue;
    std::fprintf(stderr, "bgfs: bug: a request waits for its own ancestor\n");
    Print("request", *this);
    Print("ancestor", *ancestor);
    std::abort();
  }
  co_await blocker->waiters_.Wait();
}

void Request::Run() {
  BGFS_CHECK(!running_);
  if (!indexed_) {
    running_ = true;
    return;
  }
  node_.requests().Unindex(this);
  running_ = true;
  node_.requests().Index(this);
}

void Request::BeginAsking() {
  asking_ = true;
  stale_ = outdated_ = false;
  RequestTracker& tracker = node_.requests();
  previous_asking_ = nullptr;
  next_asking_ = tracker.asking_;
  if (next_asking_ != nullptr) next_asking_->previous_asking_ = this;
  tracker.asking_ = this;
}

bool Request::EndAsking(Range window) {
  (previous_asking_ != nullptr ? previous_asking_->next_asking_
                               : node_.requests().asking_) = next_asking_;
  if (next_asking_ != nullptr) {
    next_asking_->previous_asking_ = previous_asking_;
  }
  asking_ = false;
  if (window.empty()) return stale_;
  const Range asked_with = claim_;
  Claim(window);
  // What ended may have lain in the part of the window that is new.
  const bool wider = !asked_with.Contains(claim_);
  return stale_ || (wider && outdated_);
}

// --- RequestTree -----------------------------------------------------------

namespace {

bool Before(const Request* a, const Request* b) {
  return a->claim().offset != b->claim().offset
             ? a->claim().offset < b->claim().offset
             : a->order() < b->order();
}

}  // namespace

void RequestTree::Refresh(Request* node) {
  node->subtree_end_ = node->claim_.end();
  node->subtree_min_order_ = node->order_;
  node->subtree_max_order_ = node->order_;
  for (const Request* child : {node->left_, node->right_}) {
    if (child == nullptr) continue;
    node->subtree_end_ = std::max(node->subtree_end_, child->subtree_end_);
    node->subtree_min_order_ =
        std::min(node->subtree_min_order_, child->subtree_min_order_);
    node->subtree_max_order_ =
        std::max(node->subtree_max_order_, child->subtree_max_order_);
  }
}

// Into those before `pivot` and the rest.
void RequestTree::Split(Request* tree, const Request* pivot, Request** before,
                        Request** after) {
  if (tree == nullptr) {
    *before = *after = nullptr;
    return;
  }
  if (Before(tree, pivot)) {
    Split(tree->right_, pivot, &tree->right_, after);
    *before = tree;
  } else {
    Split(tree->left_, pivot, before, &tree->left_);
    *after = tree;
  }
  Refresh(tree);
}

Request* RequestTree::Merge(Request* before, Request* after) {
  if (before == nullptr) return after;
  if (after == nullptr) return before;
  if (before->priority_ > after->priority_) {
    before->right_ = Merge(before->right_, after);
    Refresh(before);
    return before;
  }
  after->left_ = Merge(before, after->left_);
  Refresh(after);
  return after;
}

void RequestTree::Insert(Request* request) {
  request->priority_ = Mix(static_cast<uint64_t>(request->order_));
  InsertAt(&root_, request);
}

void RequestTree::InsertAt(Request** link, Request* request) {
  Request* node = *link;
  if (node == nullptr || node->priority_ < request->priority_) {
    Split(node, request, &request->left_, &request->right_);
    Refresh(request);
    *link = request;
    return;
  }
  InsertAt(Before(request, node) ? &node->left_ : &node->right_, request);
  Refresh(node);
}

void RequestTree::Remove(Request* request) { RemoveAt(&root_, request); }

void RequestTree::RemoveAt(Request** link, Request* request) {
  Request* node = *link;
  BGFS_CHECK(node != nullptr);
  if (node == request) {
    *link = Merge(node->left_, node->right_);
    node->left_ = node->right_ = nullptr;
    return;
  }
  RemoveAt(Before(request, node) ? &node->left_ : &node->right_, request);
  Refresh(node);
}

Request* RequestTree::FindAny(const Range& range) const {
  Request* node = root_;
  while (node != nullptr && !node->claim_.Overlaps(range)) {
    // If claims on the left reach this far, one of them overlaps or none of
    // those on the right does.
    const bool left =
        node->left_ != nullptr && node->left_->subtree_end_ > range.offset;
    node = left ? node->left_ : node->right_;
  }
  return node;
}

Request* RequestTree::FindLatest(const Range& range, int64_t order,
                                 Request* best) const {
  return Search(root_, range, order, best);
}

Request* RequestTree::Search(Request* node, const Range& range, int64_t order,
                             Request* best) {
  if (node == nullptr || node->subtree_end_ <= range.offset) return best;
  if (node->subtree_min_order_ >= order) return best;
  if (best != nullptr && node->subtree_max_order_ <= best->order_) return best;
  if (node->order_ < order && node->claim_.Overlaps(range) &&
      (best == nullptr || node->order_ > best->order_)) {
    best = node;
  }
  // The side that may hold later ones first, so that it prunes the other.
  Request* first = node->left_;
  Request* second = node->claim_.offset < range.end() ? node->right_ : nullptr;
  if (first != nullptr && second != nullptr &&
      second->subtree_max_order_ > first->subtree_max_order_) {
    std::swap(first, second);
  }
  best = Search(first, range, order, best);
  return Search(second, range, order, best);
}

// --- RequestTracker --------------------------------------------------------

RequestTracker::~RequestTracker() { BGFS_CHECK(count_ == 0); }

void RequestTracker::Add(Request* request) {
  request->order_ = next_order_++;
  ++count_;
  Link(request);
}

void RequestTracker::Remove(Request* request) {
  BGFS_CHECK(!request->asking_);
  --count_;
  if (request->indexed_) {
    Unindex(request);
  } else {
    Unlink(request);
  }
  if (request->serialising_) --serialising_count_;
  if (request->serialising_) MarkStale(*request);
}

void RequestTracker::MakeSerialising(Request* request, Range claim) {
  if (request->indexed_) {
    Unindex(request);
  } else {
    Unlink(request);
  }
  if (!request->serialising_) {
    request->serialising_ = true;
    ++serialising_count_;
  }
  request->claim_ = claim;
  Index(request);
}

void RequestTracker::IndexAll() {
  while (unindexed_ != nullptr) {
    Request* request = unindexed_;
    Unlink(request);
    Index(request);
  }
}

RequestTree& RequestTracker::TreeOf(const Request& request) {
  auto& trees = request.serialising_ ? serialising_ : others_;
  return trees[request.running_ ? 1 : 0];
}

void RequestTracker::Index(Request* request) {
  TreeOf(*request).Insert(request);
  request->indexed_ = true;
}

void RequestTracker::Unindex(Request* request) {
  TreeOf(*request).Remove(request);
  request->indexed_ = false;
}

void RequestTracker::Link(Request* request) {
  request->previous_ = nullptr;
  request->next_ = unindexed_;
  if (unindexed_ != nullptr) unindexed_->previous_ = request;
  unindexed_ = request;
}

void RequestTracker::Unlink(Request* request) {
  if (request->previous_ != nullptr) {
    request->previous_->next_ = request->next_;
  } else {
    unindexed_ = request->next_;
  }
  if (request->next_ != nullptr) request->next_->previous_ = request->previous_;
}

// Only a serialising request changes what the answer depends on.
void RequestTracker::MarkStale(const Request& ended) {
  for (Request* asking = asking_; asking != nullptr;
       asking = asking->next_asking_) {
    asking->outdated_ = true;
    if (asking->ConflictsWith(ended)) asking->stale_ = true;
  }
}

}  // namespace bgfs
