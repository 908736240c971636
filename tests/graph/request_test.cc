// RequestTracker and RequestTree against a model that looks at everything.

#include "graph/request.h"

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "graph/graph.h"
#include "gtest/gtest.h"
#include "tests/graph/test_driver.h"

namespace bgfs {
namespace {

// A request of the tracker, and what the model knows of it.
struct Tracked {
  std::unique_ptr<Request> request;
  Range claim;
  int64_t order = 0;
  bool serialising = false;
  bool running = false;
  bool asking = false;
  bool stale = false;
  bool any_ended = false;
};

bool Conflict(const Tracked& a, const Tracked& b) {
  return (a.serialising || b.serialising) && a.claim.Overlaps(b.claim);
}

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed), graph_(nullptr) {
    node_ = graph_.AddNode({}, std::make_unique<TestDriver>(0));
  }
  ~Model() {
    while (!requests_.empty()) End(requests_.size() - 1);
    graph_.RemoveNode(node_);
  }

  void Step() {
    switch (requests_.empty() ? 0 : Draw(8)) {
      case 0:
      case 1:
        Add();
        break;
      case 2:
        Claim(Draw(requests_.size()));
        break;
      case 3:
        Ask(Draw(requests_.size()));
        break;
      case 4:
        EndAsking(Draw(requests_.size()));
        break;
      case 5:
      case 6:
        RunIfFree(Draw(requests_.size()));
        break;
      default:
        End(Draw(requests_.size()));
    }
  }

  // Compares the blocker of everything that waits.
  void Check() {
    int64_t serialising = 0;
    for (const Tracked& tracked : requests_) {
      serialising += tracked.serialising ? 1 : 0;
      EXPECT_EQ(tracked.request->claim().offset, tracked.claim.offset);
      EXPECT_EQ(tracked.request->claim().end(), tracked.claim.end());
      if (!tracked.running) CheckBlocker(tracked);
    }
    EXPECT_EQ(node_->requests().count(),
              static_cast<int64_t>(requests_.size()));
    EXPECT_EQ(node_->requests().serialising_count(), serialising);
  }

 private:
  size_t Draw(size_t below) { return random_() % below; }

  Range DrawRange() {
    // Few places, so that claims touch, meet and nest often.
    const auto offset = static_cast<int64_t>(Draw(24));
    if (Draw(16) == 0) return Range::FromTo(offset, Range::kToInfinity);
    return {offset, 1 + static_cast<int64_t>(Draw(6))};
  }

  void Add() {
    Tracked tracked;
    tracked.claim = DrawRange();
    tracked.order = next_order_++;
    tracked.request = std::make_unique<Request>(
        *node_, nullptr, RequestKind::kWrite, tracked.claim, 0);
    requests_.push_back(std::move(tracked));
  }

  static void Widen(Tracked* tracked, const Range& window) {
    tracked->claim = tracked->claim.Union(window);
    tracked->serialising = true;
  }

  void Claim(size_t index) {
    Tracked& tracked = requests_[index];
    if (tracked.running) return;
    const Range window = DrawRange();
    tracked.request->Claim(window);
    Widen(&tracked, window);
  }

  void Ask(size_t index) {
    Tracked& tracked = requests_[index];
    if (tracked.running || tracked.asking) return;
    tracked.asking = true;
    tracked.stale = tracked.any_ended = false;
    tracked.request->BeginAsking();
  }

  void EndAsking(size_t index) {
    Tracked& tracked = requests_[index];
    if (!tracked.asking) return;
    tracked.asking = false;
    bool stale = tracked.stale;
    Range window;
    if (Draw(2) == 0) {
      window = DrawRange();
      if (!tracked.claim.Contains(window)) stale |= tracked.any_ended;
      Widen(&tracked, window);
    }
    EXPECT_EQ(tracked.request->EndAsking(window), stale);
  }

  void RunIfFree(size_t index) {
    Tracked& tracked = requests_[index];
    if (tracked.running || tracked.asking) return;
    if (tracked.request->FindBlocker() != nullptr) return;
    tracked.request->Run();
    tracked.running = true;
  }

  void End(size_t index) {
    EndAsking(index);
    const Tracked ended = std::move(requests_[index]);
    requests_.erase(requests_.begin() + static_cast<ptrdiff_t>(index));
    if (!ended.serialising) return;
    for (Tracked& other : requests_) {
      if (!other.asking) continue;
      other.any_ended = true;
      if (Conflict(ended, other)) other.stale = true;
    }
  }

  // Of those in its way, any running one, but a waiting one before those, and
  // of the waiting ones the one that arrived last.
  void CheckBlocker(const Tracked& tracked) {
    const Tracked* expected = nullptr;
    for (const Tracked& other : requests_) {
      if (&other == &tracked || !Conflict(tracked, other)) continue;
      if (!other.running && other.order > tracked.order) continue;
      if (expected == nullptr || expected->running ||
          (!other.running && other.order > expected->order)) {
        expected = &other;
      }
    }
    const Request* found = tracked.request->FindBlocker();
    ASSERT_EQ(found != nullptr, expected != nullptr);
    if (found == nullptr) return;
    EXPECT_EQ(found->running(), expected->running);
    EXPECT_TRUE(found->claim().Overlaps(tracked.claim));
    EXPECT_TRUE(found->serialising() || tracked.serialising);
    if (!found->running()) {
      EXPECT_EQ(found, expected->request.get());
    }
  }

  std::mt19937_64 random_;
  Graph graph_;
  Node* node_;
  int64_t next_order_ = 0;
  std::vector<Tracked> requests_;
};

TEST(RequestTracker, FindsTheBlockersThatAModelFinds) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Model model(seed);
    for (int step = 0; step < 300; ++step) {
      model.Step();
      model.Check();
    }
    if (testing::Test::HasFailure()) return;
  }
}

TEST(RequestTrackerDeathTest, ARunningRequestClaimsNothing) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Graph graph(nullptr);
  Node* node = graph.AddNode({}, std::make_unique<TestDriver>(0));
  {
    Request request(*node, nullptr, RequestKind::kWrite, {0, 1}, 0);
    request.Run();
    EXPECT_DEATH(request.Claim({0, 2}), "bug at .*running");
  }
  graph.RemoveNode(node);
}

}  // namespace
}  // namespace bgfs
