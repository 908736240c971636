// What the engine costs: a tracked request among others in flight, a request
// through layers, one that dirty bitmaps record, an awaited task. Not a test;
// run build/release/tests/bench/ bgfs_engine_bench.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "graph/async/make_loop.h"
#include "graph/backend.h"
#include "graph/graph.h"

namespace bgfs {
namespace {

constexpr int64_t kBlock = 4096;
constexpr int64_t kSize = int64_t{1} << 40;

// Does nothing, at once; or passes on to its child.
class Nothing final : public Driver {
 public:
  Child* below = nullptr;

  absl::string_view format_name() const override { return "nothing"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override {
    if (below != nullptr) return below->Read(&request, offset, data);
    return Done();
  }
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override {
    if (below != nullptr) return below->Write(&request, offset, data);
    return Done();
  }
  Task<IoResult<int64_t>> AllocatedBytes() override { co_return int64_t{0}; }

 private:
  static Task<IoStatus> Done() { co_return IoStatus(); }
};

// --- Tracking ----------------------------------------------------------------

class Tracked {
 public:
  // `in_flight` running requests, `percent` of them serialising, that overlap
  // nothing.
  Tracked(int64_t in_flight, int64_t percent) : graph_(nullptr) {
    node_ = graph_.AddNode({}, std::make_unique<Nothing>());
    for (int64_t i = 0; i < in_flight; ++i) {
      requests_.push_back(std::make_unique<Request>(
          *node_, nullptr, RequestKind::kWrite, Free(2 * i), 0));
      if (static_cast<int64_t>(random_() % 100) < percent) {
        requests_.back()->Claim(Free(2 * i));
      }
      requests_.back()->Run();
    }
  }
  ~Tracked() {
    requests_.clear();
    graph_.RemoveNode(node_);
  }

  Node& node() { return *node_; }
  // Somewhere between two of them.
  Range Next() {
    const auto count = static_cast<int64_t>(requests_.size()) + 1;
    return Free(2 * static_cast<int64_t>(random_() % count) + 1);
  }

 private:
  static Range Free(int64_t block) { return {block * kBlock, kBlock}; }

  std::mt19937_64 random_;
  Graph graph_;
  Node* node_;
  std::vector<std::unique_ptr<Request>> requests_;
};

void TrackPlain(benchmark::State& state) {
  Tracked tracked(state.range(0), state.range(1));
  for (auto unused : state) {
    Request request(tracked.node(), nullptr, RequestKind::kWrite,
                    tracked.Next(), 0);
    benchmark::DoNotOptimize(request.FindBlocker());
    request.Run();
  }
}

void TrackSerialising(benchmark::State& state) {
  Tracked tracked(state.range(0), state.range(1));
  for (auto unused : state) {
    const Range range = tracked.Next();
    Request request(tracked.node(), nullptr, RequestKind::kWrite, range, 0);
    request.Claim(range);
    benchmark::DoNotOptimize(request.FindBlocker());
    request.Run();
  }
}

void Counts(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"in_flight", "serialising%"});
  for (int64_t in_flight : {1, 32, 1024, 16384}) {
    for (int64_t percent : {0, 1, 10}) bench->Args({in_flight, percent});
  }
}

BENCHMARK(TrackPlain)->Apply(Counts);
BENCHMARK(TrackSerialising)->Apply(Counts);

// All in one place: a crowd that forms a queue, of which each in turn ends.
void Crowd(benchmark::State& state) {
  const int64_t count = state.range(0);
  Graph graph(nullptr);
  Node* node = graph.AddNode({}, std::make_unique<Nothing>());
  for (auto unused : state) {
    std::vector<std::unique_ptr<Request>> crowd;
    for (int64_t i = 0; i < count; ++i) {
      crowd.push_back(std::make_unique<Request>(
          *node, nullptr, RequestKind::kWrite, Range{0, kBlock}, 0));
      crowd.back()->Claim({0, kBlock});
      benchmark::DoNotOptimize(crowd.back()->FindBlocker());
    }
    for (auto& each : crowd) {
      benchmark::DoNotOptimize(each->FindBlocker());
      each->Run();
      each.reset();
    }
  }
  state.SetItemsProcessed(state.iterations() * count);
  graph.RemoveNode(node);
}
BENCHMARK(Crowd)->Arg(32)->Arg(1024)->Arg(16384);

// A claim over everything among requests before and after it: it waits for
// each that runs, and is not kept from ending by those that came later.
void Everything(benchmark::State& state) {
  const int64_t count = state.range(0);
  Graph graph(nullptr);
  Node* node = graph.AddNode({}, std::make_unique<Nothing>());
  for (auto unused : state) {
    std::vector<std::unique_ptr<Request>> running;
    std::vector<std::unique_ptr<Request>> late;
    for (int64_t i = 0; i < count; ++i) {
      running.push_back(std::make_unique<Request>(
          *node, nullptr, RequestKind::kWrite, Range{2 * i, 1}, 0));
      running.back()->Run();
    }
    Request all(*node, nullptr, RequestKind::kTruncate, {0, kSize}, 0);
    all.Claim({0, kSize});
    for (int64_t i = 0; i < count; ++i) {
      late.push_back(std::make_unique<Request>(
          *node, nullptr, RequestKind::kWrite, Range{2 * i + 1, 1}, 0));
      benchmark::DoNotOptimize(late.back()->FindBlocker());
    }
    while (!running.empty()) {
      benchmark::DoNotOptimize(all.FindBlocker());
      running.pop_back();
    }
    all.Run();
  }
  state.SetItemsProcessed(state.iterations() * count);
  graph.RemoveNode(node);
}
BENCHMARK(Everything)->Arg(32)->Arg(1024)->Arg(16384);

// --- Through the engine ------------------------------------------------------

enum class Kind : uint8_t { kRead, kWrite };

Task<void> RunRequests(benchmark::State* state, Loop* loop, Kind kind) {
  Graph graph(loop);
  Nothing* below = nullptr;
  for (int64_t layer = 0; layer < state->range(0); ++layer) {
    auto owned = std::make_unique<Nothing>();
    Nothing* driver = owned.get();
    Node* node = graph.AddNode({}, std::move(owned));
    node->SetSize(kSize);
    if (below != nullptr) {
      driver->below =
          *node->AttachChild("file", ChildRole::kFilter, &below->node());
    }
    below = driver;
  }
  auto backend = Backend::Create("bench", &below->node(),
                                 {kConsistentRead | kWrite, kAllPermissions});
  std::string data(static_cast<size_t>(kBlock), 'x');
  const IoView view(data.data(), kBlock);
  int64_t offset = 0;
  for (auto unused : *state) {
    offset = (offset + kBlock) % kSize;
    const IoStatus status = kind == Kind::kRead
                                ? co_await (*backend)->Read(offset, view)
                                : co_await (*backend)->Write(offset, view);
    if (!status.ok()) std::abort();
  }
  backend->reset();
  (co_await graph.Close()).IgnoreError();
}

void RunOnLoop(benchmark::State& state, Kind kind) {
  auto loop = MakeLoop("bench");
  if (!loop.ok()) std::abort();
  BlockOn(**loop, RunRequests(&state, loop->get(), kind));
}

void Layers_Read(benchmark::State& state) { RunOnLoop(state, Kind::kRead); }
void Layers_Write(benchmark::State& state) { RunOnLoop(state, Kind::kWrite); }
BENCHMARK(Layers_Read)->ArgName("layers")->Arg(1)->Arg(2)->Arg(4);
BENCHMARK(Layers_Write)->ArgName("layers")->Arg(1)->Arg(2)->Arg(4);

// Random writes, so that runs are cut and joined.
Task<void> RunRecorded(benchmark::State* state, Loop* loop) {
  Graph graph(loop);
  Node* node = graph.AddNode({}, std::make_unique<Nothing>());
  node->SetSize(kSize);
  for (int64_t i = 0; i < state->range(0); ++i) {
    if (!node->dirty_bitmaps().Add("", 65536).ok()) std::abort();
  }
  auto backend = Backend::Create("bench", node,
                                 {kConsistentRead | kWrite, kAllPermissions});
  std::string data(static_cast<size_t>(kBlock), 'x');
  const IoView view(data.data(), kBlock);
  std::mt19937_64 random;
  for (auto unused : *state) {
    const auto block = static_cast<int64_t>(random() % (1 << 20));
    const IoStatus status = co_await (*backend)->Write(block * kBlock, view);
    if (!status.ok()) std::abort();
  }
  backend->reset();
  (co_await graph.Close()).IgnoreError();
}

void DirtyBitmaps_Write(benchmark::State& state) {
  auto loop = MakeLoop("bench");
  if (!loop.ok()) std::abort();
  BlockOn(**loop, RunRecorded(&state, loop->get()));
}
BENCHMARK(DirtyBitmaps_Write)->ArgName("bitmaps")->Arg(0)->Arg(1)->Arg(4);

Task<int> Ready() { co_return 1; }

Task<void> AwaitReady(benchmark::State* state) {
  for (auto unused : *state) benchmark::DoNotOptimize(co_await Ready());
}

void AwaitedTask(benchmark::State& state) {
  auto loop = MakeLoop("bench");
  if (!loop.ok()) std::abort();
  BlockOn(**loop, AwaitReady(&state));
}
BENCHMARK(AwaitedTask);

}  // namespace
}  // namespace bgfs

BENCHMARK_MAIN();
