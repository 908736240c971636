#include "tests/graph/engine_history.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/drain.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

constexpr int kWorkers = 6;
constexpr int kRequests = 30;  // of each
constexpr int64_t kCell = CellModel::kCell;

// Memory for a request, at an odd address and in pieces, or all in one.
class Memory {
 public:
  Memory(std::string content, SimRandom* random)
      : content_(std::move(content)) {
    const auto size = static_cast<int64_t>(content_.size());
    view_ = IoView(content_.data(), size);
    if (random->Chance(0.7)) return;
    for (int64_t at = 0; at < size;) {
      const int64_t piece = random->Between(1, size - at);
      pieces_.push_back(
          {&content_[static_cast<size_t>(at)], static_cast<size_t>(piece)});
      at += piece;
    }
    view_ = IoView(pieces_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const IoView& view() const { return view_; }
  const std::string& content() const { return content_; }

 private:
  std::string content_;
  std::vector<iovec> pieces_;
  IoView view_;
};

}  // namespace

EngineHistory::EngineHistory(SimWorld* world, Trouble trouble)
    : world_(world),
      random_(world->seed() * 31 + static_cast<uint64_t>(trouble)),
      trouble_(trouble),
      resizable_(random_.Chance(0.6)),
      size_(kCell * random_.Between(kSmallest / kCell, kCapacity / kCell)),
      model_(size_, kCapacity),
      graph_(world, size_) {}

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

bool EngineHistory::Expected(IoStatus status, Range range) const {
  if (status.ok() || trouble_ != Trouble::kNone) return true;
  return resizable_ && range.end() > kSmallest && status.error() == EIO;
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
  for (int i = 0; i < kWorkers; ++i) {
    Spawn(RunWorker(backends_[static_cast<size_t>(i % 2)].get(),
                    running_.Hold()));
  }
  Spawn(RunDrains(running_.Hold()));
  co_await running_.WaitIdle();
}

Task<void> EngineHistory::RunWorker(Backend* backend, InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  for (int i = 0; i < kRequests && !failed_; ++i) {
    ++requests_;
    if (random_.Chance(0.2)) {
      co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                           random_.Below(5000000));
    }
    const Range range = PickRange();
    switch (random_.Below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        co_await Read(backend, range);
        break;
      case 4:
        co_await CheckStatus(backend, range);
        break;
      case 5:
      case 6:
        co_await Zero(backend, range);
        break;
      case 7:
        co_await Discard(backend, range);
        break;
      case 8:
        co_await Reserve(backend, range);
        break;
      case 9:
        co_await Flush(backend);
        break;
      case 10:
        if (resizable_) co_await Truncate(backend);
        break;
      default:
        co_await Write(backend, range);
    }
  }
}

Task<void> EngineHistory::RunDrains(InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  const auto& nodes = graph_.graph().nodes();
  for (int i = 0; i < 4; ++i) {
    co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                         random_.Below(20000000));
    Node* node = nodes[static_cast<size_t>(
                           random_.Below(static_cast<int64_t>(nodes.size())))]
                     .get();
    Drain drain({node});
    co_await drain.Begin();
    const int64_t requests = requests_;
    for (int look = 0; look < 3; ++look) {
      for (const Node* drained : drain.nodes()) {
        if (const_cast<Node*>(drained)->in_flight().count() != 0) {
          Fail("something is in flight inside a drain");
        }
      }
      co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                           random_.Below(1000000));
    }
    // Each worker can at most begin the request that is parked.
    if (requests_ > requests + kWorkers) Fail("a drain lets requests pass");
    drain.End();
  }
}

Task<void> EngineHistory::Finish() {
  if (trouble_ == Trouble::kNone) {
    const int64_t size = backends_[0]->size();
    if (size < kSmallest || size > kCapacity) Fail("a size nobody asked for");
    co_await Read(backends_[0].get(), {0, size});
    co_await CheckStatus(backends_[0].get(), {0, size});
    co_await Flush(backends_[0].get());
  }
  backends_.clear();
  const absl::Status closed = co_await graph_.graph().Close();
  if (trouble_ == Trouble::kNone && !closed.ok()) Fail(closed.ToString());
}

// --- Requests ----------------------------------------------------------------

Range EngineHistory::PickRange() {
  const int64_t limit = (resizable_ ? kCapacity : size_) / kCell;
  // Often in a few places, so that requests meet.
  const int64_t first = random_.Chance(0.5)
                            ? random_.Below(limit)
                            : std::min(random_.Below(24) + 64, limit - 1);
  int64_t cells = random_.Between(1, random_.Chance(0.8) ? 12 : 160);
  cells = std::min(cells, limit - first);
  Range range = {first * kCell, cells * kCell};
  if (random_.Chance(0.2)) {  // whole clusters
    range = {AlignDown(range.offset, 4096), 4096};
  }
  range.bytes = std::min(range.bytes, limit * kCell - range.offset);
  return range;
}

Task<void> EngineHistory::Read(Backend* backend, Range range) {
  Memory memory(std::string(static_cast<size_t>(range.bytes), '?'), &random_);
  const int64_t start = model_.Now();
  const IoStatus status = co_await backend->Read(
      range.offset, memory.view(), random_.Chance(0.1) ? kSerialise : 0);
  if (!Expected(status, range)) {
    Fail(absl::StrCat("a read fails: errno ", status.error()));
  }
  if (!status.ok()) co_return;
  ExpectFine(model_.CheckRead(start, range.offset, memory.content()));
}

// What is said to be zero must be so at some moment meanwhile.
Task<void> EngineHistory::CheckStatus(Backend* backend, Range range) {
  const int64_t start = model_.Now();
  while (range.bytes > 0) {
    const IoResult<BlockStatus> status =
        co_await backend->Status(range.offset, range.bytes);
    if (!status.ok()) {
      if (!Expected(status.status(), range)) Fail("a status fails");
      co_return;
    }
    if (status->bytes <= 0 || status->bytes > range.bytes) {
      Fail(absl::StrCat("a status of ", status->bytes, " bytes"));
      co_return;
    }
    // Whole cells.
    const Range inside = {AlignUp(range.offset, kCell), 0};
    const int64_t end = AlignDown(range.offset + status->bytes, kCell);
    if ((status->flags & BlockStatus::kData) == 0 && end > inside.offset) {
      ExpectFine(model_.CheckRead(
          start, inside.offset,
          std::string(static_cast<size_t>(end - inside.offset), 0)));
    }
    range.offset += status->bytes;
    range.bytes -= status->bytes;
  }
}

Task<void> EngineHistory::Write(Backend* backend, Range range) {
  CellModel::Change* change = model_.Begin(range, /*zeros=*/false);
  Memory memory(CellModel::Content(change->number, range), &random_);
  const IoStatus status = co_await backend->Write(
      range.offset, memory.view(), random_.Chance(0.05) ? kSerialise : 0);
  model_.End(change, status.ok());
  if (!status.ok() && trouble_ == Trouble::kNone) {
    Fail(absl::StrCat("a write fails: errno ", status.error()));
  }
}

Task<void> EngineHistory::Zero(Backend* backend, Range range) {
  CellModel::Change* change = model_.Begin(range, /*zeros=*/true);
  const IoStatus status = co_await backend->Zero(
      range.offset, range.bytes, random_.Chance(0.5) ? kMayUnmap : 0);
  model_.End(change, status.ok());
  if (!status.ok() && trouble_ == Trouble::kNone) {
    Fail(absl::StrCat("a zero request fails: errno ", status.error()));
  }
}

Task<void> EngineHistory::Discard(Backend* backend, Range range) {
  CellModel::Change* change = model_.Begin(range, /*zeros=*/true);
  const IoStatus status = co_await backend->Discard(range.offset, range.bytes);
  model_.End(change, /*certain=*/false);
  if (!Expected(status, range)) Fail("a discard fails");
}

Task<void> EngineHistory::Reserve(Backend* backend, Range range) {
  const IoStatus status = co_await backend->Reserve(range.offset, range.bytes);
  if (status.error() != ENOTSUP && !Expected(status, range)) {
    Fail(absl::StrCat("a reserve fails: errno ", status.error()));
  }
}

Task<void> EngineHistory::Truncate(Backend* backend) {
  const int64_t size =
      kCell * random_.Between(kSmallest / kCell, kCapacity / kCell);
  const bool exact = random_.Chance(0.8);
  CellModel::Change* change = model_.Begin(
      exact ? Range::FromTo(size, kCapacity) : Range{}, /*zeros=*/true);
  const IoStatus status = co_await backend->Truncate(size, exact);
  model_.End(change, status.ok());
  if (!status.ok() && trouble_ == Trouble::kNone) {
    Fail(absl::StrCat("a truncate fails: errno ", status.error()));
  }
}

Task<void> EngineHistory::Flush(Backend* backend) {
  const int64_t start = model_.Now();
  const IoStatus status = co_await backend->Flush();
  if (status.ok()) {
    model_.Flushed(start);
  } else if (trouble_ == Trouble::kNone) {
    Fail(absl::StrCat("a flush fails: errno ", status.error()));
  }
}

void RunHistories(int seeds, EngineHistory::Trouble trouble) {
  ForEachSeed(seeds, [trouble](uint64_t seed) {
    SimWorld world(seed);
    EngineHistory(&world, trouble).Run();
  });
}

}  // namespace bgfs
