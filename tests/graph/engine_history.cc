#include "tests/graph/engine_history.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

constexpr int kWorkers = 6;
constexpr int kRequests = 30;  // of each
constexpr int64_t kCell = CellModel::kCell;

}  // namespace

EngineHistory::EngineHistory(SimWorld* world, Trouble trouble)
    : EngineHistory(
          world, trouble,
          SimRandom(world->seed() * 31 + static_cast<uint64_t>(trouble))) {}

EngineHistory::EngineHistory(SimWorld* world, Trouble trouble, SimRandom random)
    : world_(world),
      random_(std::move(random)),
      trouble_(trouble),
      resizable_(random_.Chance(0.6)),
      size_(kCell * random_.Between(kSmallest / kCell, kCapacity / kCell)),
      model_(size_, kCapacity),
      graph_(world, size_),
      requests_(
          {.smallest = resizable_ ? kSmallest : size_,
           .largest = resizable_ ? kCapacity : size_,
           .all_flags = true,
           .errors_allowed = [this] { return trouble_ != Trouble::kNone; },
           .fail = [this](const std::string& what) { Fail(what); }},
          &model_, &random_) {}

std::string EngineHistory::Describe() const {
  return absl::StrCat("seed ", world_->seed(), ", ", size_, " bytes",
                      resizable_ ? ", resizable: " : ": ",
                      graph_.description());
}

void EngineHistory::Fail(const std::string& what) {
  if (failed_) return;
  failed_ = true;
  ADD_FAILURE() << Describe() << "\n" << what;
}

void EngineHistory::ExpectFine(const std::string& wrong) {
  if (!wrong.empty()) Fail(wrong);
}

// --- The course --------------------------------------------------------------

void EngineHistory::Run() {
  world_->Run(graph_.Build());
  if (trouble_ == Trouble::kPowerCut) {
    world_->disk().AfterOps(random_.Below(400), [this] {
      if (!world_->disk().dead()) world_->disk().PowerCut();
    });
  }
  if (trouble_ == Trouble::kErrors) {
    using Kind = FileOp::Kind;
    const Kind kinds[] = {Kind::kRead, Kind::kWrite, Kind::kAllocate,
                          Kind::kTruncate};
    for (int64_t faults = random_.Between(1, 6); faults > 0; --faults) {
      // Not of a sync: after that one, files read as they were long before.
      SimFault fault;
      fault.kind = kinds[random_.Below(4)];
      fault.skip = random_.Below(100);
      fault.error = random_.Chance(0.5) ? EIO : ENOSPC;
      world_->disk().Inject(fault);
    }
  }
  world_->Run(RunWorkers());
  if (trouble_ == Trouble::kPowerCut && !world_->disk().dead()) {
    world_->disk().PowerCut();
  }
  world_->disk().ClearFaults();
  world_->Run(Finish());
  if (trouble_ == Trouble::kPowerCut) {
    world_->disk().Restart();
    if (!graph_.durable()) return;
    std::string content = graph_.DurableContent();
    // A size that was not flushed may be the old one, or the new one.
    content.resize(static_cast<size_t>(kCapacity), 0);
    ExpectFine(model_.CheckDurable(content));
  }
}

Task<void> EngineHistory::RunWorkers() {
  Permissions used = kConsistentRead | kWrite;
  if (resizable_) used |= kResize;
  for (int i = 0; i < 2; ++i) {
    auto backend =
        Backend::Create("history", graph_.top(), {used, kAllPermissions});
    EXPECT_TRUE(backend.ok()) << backend.status();
    backends_.push_back(*std::move(backend));
  }
  EXPECT_TRUE(graph_.top()->dirty_bitmaps().Add("history", 512).ok());
  for (int i = 0; i < kWorkers; ++i) {
    Spawn(RunWorker(backends_[static_cast<size_t>(i % 2)].get(),
                    running_.Hold()));
  }
  Spawn(RunDrains(running_.Hold()));
  Spawn(RunChanges(running_.Hold()));
  co_await running_.WaitIdle();
}

Task<void> EngineHistory::RunWorker(Backend* backend, InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  for (int i = 0; i < kRequests && !failed_ && !random_.spent(); ++i) {
    if (random_.Chance(0.2)) {
      co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                           random_.Below(5000000));
    }
    co_await requests_.DoSomething(backend);
  }
}

Task<void> EngineHistory::RunDrains(InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  for (int i = 0; i < 4; ++i) {
    co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                         random_.Below(20000000));
    const Mutex::Guard guard = co_await changing_.Lock();
    co_await requests_.DrainSomething(&graph_.graph(), kWorkers);
  }
}

Task<void> EngineHistory::RunChanges(InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  RandomChanges changes(&graph_.graph(), &random_);
  for (int i = 0; i < 8 && !failed_; ++i) {
    co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                         random_.Below(10000000));
    const Mutex::Guard guard = co_await changing_.Lock();
    const absl::Status changed = co_await changes.ChangeSomething();
    if (!changed.ok() && trouble_ == Trouble::kNone) Fail(changed.ToString());
  }
}

Task<void> EngineHistory::Finish() {
  if (trouble_ == Trouble::kNone) {
    const int64_t size = backends_[0]->size();
    if (size < kSmallest || size > kCapacity) Fail("a size nobody asked for");
    co_await requests_.Read(backends_[0].get(), {0, size});
    co_await requests_.CheckStatus(backends_[0].get(), {0, size});
    co_await requests_.Flush(backends_[0].get());
  }
  backends_.clear();
  const absl::Status closed = co_await graph_.graph().Close();
  if (trouble_ == Trouble::kNone && !closed.ok()) Fail(closed.ToString());
}

void RunHistories(int seeds, EngineHistory::Trouble trouble) {
  ForEachSeed(seeds, [trouble](uint64_t seed) {
    SimWorld world(seed);
    EngineHistory(&world, trouble).Run();
  });
}

}  // namespace bgfs
