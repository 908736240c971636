#include "drivers/qcow2/l2_cache.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "drivers/qcow2/format.h"
#include "graph/async/make_loop.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/raw_header.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kSlice = 4096;

// A file whose 64-bit word at offset x is x, that counts its reads, and holds
// them while `hold` is set.
class Words final : public Driver {
 public:
  absl::string_view format_name() const override { return "words"; }
  Task<IoStatus> Read(Request&, int64_t offset, IoView data) override {
    ++reads;
    while (hold) co_await held_.Wait();
    if (fail) co_return IoError(ENXIO);
    std::vector<uint8_t> bytes;
    for (int64_t at = 0; at < data.size(); at += 8) {
      StoreBig(bytes, static_cast<size_t>(at),
               static_cast<uint64_t>(offset + at), 8);
    }
    data.CopyFrom(bytes.data());
    co_return IoStatus();
  }
  Task<IoResult<int64_t>> AllocatedBytes() override { co_return int64_t{0}; }

  void Release() {
    hold = false;
    held_.WakeAll();
  }

  int reads = 0;
  bool hold = false;
  bool fail = false;

 private:
  WaitQueue held_;
};

// A cache over Words, used on a loop of its own.
class World {
 public:
  World(int cluster_bits, int64_t tables, int64_t max_bytes) {
    loop_ = *MakeLoop("l2-cache-test");
    graph_ = std::make_unique<Graph>(loop_.get());
    Run(SetUp(cluster_bits, tables, max_bytes));
  }
  ~World() { Run(TearDown()); }

  void Run(Task<void> task) { BlockOn(*loop_, std::move(task)); }

  Task<int> Load(int64_t slice) {
    Request request(*node_, nullptr, RequestKind::kRead, {0, 1}, 0);
    request.Run();
    const IoStatus status = co_await cache->Load(request, HostOffset(slice));
    co_return status.error();
  }
  // The first word of a slice, -1 if it is not cached.
  int64_t First(int64_t slice) {
    const auto entries = cache->Find(HostOffset(slice));
    return entries.empty() ? -1 : static_cast<int64_t>(entries[0]);
  }

  std::unique_ptr<L2Cache> cache;
  Words* words = nullptr;

 private:
  Task<void> SetUp(int cluster_bits, int64_t tables, int64_t max_bytes) {
    auto driver = std::make_unique<Words>();
    words = driver.get();
    NodeOptions options;
    options.read_only = true;
    node_ = graph_->AddNode(std::move(options), std::move(driver));
    node_->SetSize(int64_t{1} << 40);
    backend_ =
        *Backend::Create("test", node_, {kConsistentRead, kAllPermissions});
    cache = std::make_unique<L2Cache>(&backend_->root(), Geometry(cluster_bits),
                                      tables, max_bytes);
    co_return;
  }
  Task<void> TearDown() {
    cache.reset();
    backend_.reset();
    EXPECT_TRUE((co_await graph_->Close()).ok());
  }

  std::unique_ptr<HostLoop> loop_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Backend> backend_;
  Node* node_ = nullptr;
};

TEST(L2Cache, SlicesAreAtMostAClusterAndFourKilobytes) {
  World small(9, 100, 1 << 20);
  EXPECT_EQ(small.cache->slice_entries(), 64);
  EXPECT_EQ(small.cache->capacity(), 100);  // covers the image
  World large(16, 100, 1 << 20);
  EXPECT_EQ(large.cache->slice_entries(), 512);
  EXPECT_EQ(large.cache->capacity(), 256);  // as much as it may
  EXPECT_EQ(large.cache->SliceOf(HostOffset(65536), L2Index(511)),
            HostOffset(65536));
  EXPECT_EQ(large.cache->SliceOf(HostOffset(65536), L2Index(1025)),
            HostOffset(65536 + 8192));
  World none(16, 0, 0);
  EXPECT_EQ(none.cache->capacity(), 1);
}

Task<void> LoadsAndEvicts(World* world) {
  L2Cache& cache = *world->cache;
  EXPECT_EQ(world->First(0), -1);
  for (int64_t slice = 0; slice < 4; ++slice) {
    EXPECT_EQ(co_await world->Load(slice * kSlice), 0);
  }
  EXPECT_EQ(world->words->reads, 4);
  const auto entries = cache.Find(HostOffset(3 * kSlice));
  for (size_t i = 0; i < 512; ++i) {
    EXPECT_EQ(entries[i], static_cast<uint64_t>(3 * kSlice) + i * 8);
  }
  // 0 was used least recently, until now.
  EXPECT_EQ(world->First(0), 0);
  EXPECT_EQ(co_await world->Load(4 * kSlice), 0);
  EXPECT_EQ(world->First(1 * kSlice), -1);
  EXPECT_EQ(world->First(0), 0);
  EXPECT_EQ(world->First(4 * kSlice), 4 * kSlice);
  EXPECT_EQ(cache.cached(), 4);
  // Loading what is there reads nothing.
  EXPECT_EQ(co_await world->Load(0), 0);
  EXPECT_EQ(world->words->reads, 5);
  cache.Clear();
  EXPECT_EQ(cache.cached(), 0);
  EXPECT_EQ(world->First(0), -1);
  EXPECT_EQ(co_await world->Load(0), 0);
  EXPECT_EQ(world->First(0), 0);
}

// Looks for a slice as a lookup does.
Task<void> LookUp(World* world, int64_t slice) {
  while (world->First(slice) < 0) EXPECT_EQ(co_await world->Load(slice), 0);
}

Task<void> CountsLookups(World* world) {
  for (int64_t slice : {0, 1, 1, 0, 2, 0}) {
    co_await LookUp(world, slice * kSlice);
  }
  const CacheStatistics statistics = world->cache->statistics();
  EXPECT_EQ(statistics.hits, 3) << "none of those that were waited for";
  EXPECT_EQ(statistics.misses, 3);
  EXPECT_EQ(statistics.evictions, 1);
}

TEST(L2Cache, CountsHitsAndMisses) {
  World world(16, 1, 2 * kSlice);
  world.Run(CountsLookups(&world));
}

TEST(L2Cache, TheLeastRecentlyUsedMakesRoom) {
  World world(16, 1, 4 * kSlice);
  world.Run(LoadsAndEvicts(&world));
}

Task<void> LoadInto(World* world, int64_t slice, std::vector<int>* errors) {
  errors->push_back(co_await world->Load(slice));
}

Task<void> SharesReads(World* world) {
  std::vector<int> errors;
  world->words->hold = true;
  for (int i = 0; i < 8; ++i) Spawn(LoadInto(world, 4096, &errors));
  Spawn(LoadInto(world, 8192, &errors));
  EXPECT_EQ(world->words->reads, 2);
  world->words->Release();
  while (errors.size() < 9) co_await Loop::Current()->Yield();
  EXPECT_EQ(errors, std::vector<int>(9, 0));
  EXPECT_EQ(world->words->reads, 2);
  EXPECT_EQ(world->First(4096), 4096);
}

TEST(L2Cache, ConcurrentLoadsShareOneRead) {
  World world(16, 1, 1 << 20);
  world.Run(SharesReads(&world));
}

Task<void> SharesFailures(World* world) {
  std::vector<int> errors;
  world->words->hold = true;
  world->words->fail = true;
  for (int i = 0; i < 3; ++i) Spawn(LoadInto(world, 4096, &errors));
  world->words->Release();
  while (errors.size() < 3) co_await Loop::Current()->Yield();
  EXPECT_EQ(errors, std::vector<int>(3, ENXIO));
  EXPECT_EQ(world->First(4096), -1);
  world->words->fail = false;
  EXPECT_EQ(co_await world->Load(4096), 0);
  EXPECT_EQ(world->First(4096), 4096);
}

TEST(L2Cache, AFailureIsSharedAndForgotten) {
  World world(16, 1, 1 << 20);
  world.Run(SharesFailures(&world));
}

Task<void> ForgetsWhatIsBeingRead(World* world) {
  std::vector<int> errors;
  world->words->hold = true;
  Spawn(LoadInto(world, kSlice, &errors));
  world->cache->Forget(HostOffset(0));
  world->words->Release();
  while (errors.empty()) co_await Loop::Current()->Yield();
  EXPECT_EQ(errors, std::vector<int>(1, 0));
  EXPECT_EQ(world->First(kSlice), -1);
  EXPECT_EQ(co_await world->Load(kSlice), 0);
  EXPECT_EQ(world->First(kSlice), kSlice);
}

// The table has become another one meanwhile.
TEST(L2Cache, WhatIsForgottenWhileItIsReadIsNotKept) {
  World world(16, 1, 1 << 20);
  world.Run(ForgetsWhatIsBeingRead(&world));
}

}  // namespace
}  // namespace bgfs::qcow2
