// Tracked requests, and who waits for whom (engine.md, 2.1 and 2.2).
//
//   waiting ──(nothing conflicts)──▶ running ──▶ gone
//
// A request has a number, its order of arrival on the node, and a claim: its
// range, or its window once it is serialising. Two requests conflict when
// their claims intersect and at least one is serialising. A request waits for
// each conflicting one that is running, and for each that is waiting and
// arrived earlier; once running it never waits on this node again.
//
// A request that is not serialising costs a list insertion, and a search among
// serialising ones where there are any. When a serialising one searches, every
// request that is still in the list is put into a search tree, once. There are
// four of them, for requests that are serialising or not, and running or
// waiting. They are ordered by where claims begin and carry in each subtree how
// far claims reach and which orders are in it, so that a blocker is found
// without looking at requests elsewhere.
//
// A waiter waits for one blocker at a time, the latest it can: a crowd behind
// one request then forms a queue instead of waking together.

#ifndef BGFS_GRAPH_REQUEST_H_
#define BGFS_GRAPH_REQUEST_H_

#include <array>
#include <cstdint>

#include "graph/async/io_status.h"
#include "graph/async/sync.h"
#include "graph/async/task.h"
#include "graph/types.h"

namespace bgfs {

class Node;
class RequestTracker;

class Request {
 public:
  // Registers itself on the node; `parent` is the request whose driver issues
  // this one, or null. Lives in the frame of the task that serves it.
  Request(Node& node, Request* parent, RequestKind kind, Range range,
          RequestFlags flags);
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  // Wakes those that wait for it.
  ~Request();

  Node& node() const { return node_; }
  Request* parent() const { return parent_; }
  RequestKind kind() const { return kind_; }
  // A zero request is a write without data.
  bool is_zero() const { return is_zero_; }
  void set_is_zero() { is_zero_ = true; }
  RequestFlags flags() const { return flags_; }
  const Range& range() const { return range_; }
  // What it holds against others: the range, or the window if serialising.
  const Range& claim() const { return claim_; }
  bool serialising() const { return serialising_; }
  bool running() const { return running_; }
  int64_t order() const { return order_; }

  // Before running: makes it serialising over `window` as well.
  void Claim(Range window);
  // The latest request that this one has to wait for, or null.
  Request* FindBlocker();
  // Sleeps until `blocker` has ended. No ancestor of this one may be in its
  // way: that is a bug which aborts in every build, both printed.
  Task<void> WaitFor(Request* blocker);
  // From now on nothing conflicting runs until this one has ended.
  void Run();

  // Around asking for the change window, which may take I/O. The answer is
  // claimed; true if it is stale, because a request that conflicts with the
  // claim ended meanwhile, and is to be asked for again.
  void BeginAsking();
  bool EndAsking(Range window);

 private:
  friend class RequestTracker;
  friend class RequestTree;

  bool ConflictsWith(const Request& other) const;

  Node& node_;
  Request* const parent_;
  const RequestKind kind_;
  bool is_zero_ = false;
  bool serialising_ = false;
  bool running_ = false;
  bool indexed_ = false;
  bool asking_ = false;
  bool stale_ = false;     // a conflicting one ended while this one asked
  bool outdated_ = false;  // any serialising one did
  const RequestFlags flags_;
  const Range range_;
  Range claim_;
  int64_t order_ = 0;
  WaitQueue waiters_;

  // Among those not indexed (or those asking, as a second list).
  Request* previous_ = nullptr;
  Request* next_ = nullptr;
  Request* previous_asking_ = nullptr;
  Request* next_asking_ = nullptr;

  // In a RequestTree, a treap.
  Request* left_ = nullptr;
  Request* right_ = nullptr;
  uint64_t priority_ = 0;
  int64_t subtree_end_ = 0;  // the largest claim().end()
  int64_t subtree_min_order_ = 0;
  int64_t subtree_max_order_ = 0;
};

// A search tree of claims.
class RequestTree {
 public:
  bool empty() const { return root_ == nullptr; }
  void Insert(Request* request);
  void Remove(Request* request);
  // One whose claim overlaps `range`, or null.
  Request* FindAny(const Range& range) const;
  // Of the requests whose claim overlaps `range` and whose order is below
  // `order`, the one with the highest, if that is above `best`'s (null: none
  // found yet).
  Request* FindLatest(const Range& range, int64_t order, Request* best) const;

 private:
  static void Refresh(Request* node);
  static void Split(Request* tree, const Request* pivot, Request** before,
                    Request** after);
  static Request* Merge(Request* before, Request* after);
  static void InsertAt(Request** link, Request* request);
  static void RemoveAt(Request** link, Request* request);
  static Request* Search(Request* node, const Range& range, int64_t order,
                         Request* best);

  Request* root_ = nullptr;
};

// The requests in flight on a node.
class RequestTracker {
 public:
  RequestTracker() = default;
  ~RequestTracker();

  int64_t count() const { return count_; }
  int64_t serialising_count() const { return serialising_count_; }

 private:
  friend class Request;

  void Add(Request* request);
  void Remove(Request* request);
  void MakeSerialising(Request* request, Range claim);
  void IndexAll();
  RequestTree& TreeOf(const Request& request);
  void Index(Request* request);
  void Unindex(Request* request);
  void Link(Request* request);
  void Unlink(Request* request);
  void MarkStale(const Request& ended);

  int64_t next_order_ = 0;
  int64_t count_ = 0;
  int64_t serialising_count_ = 0;
  Request* unindexed_ = nullptr;
  Request* asking_ = nullptr;
  // [0] waiting, [1] running.
  std::array<RequestTree, 2> serialising_;
  std::array<RequestTree, 2> others_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_REQUEST_H_
