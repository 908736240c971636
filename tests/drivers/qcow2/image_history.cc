#include "tests/drivers/qcow2/image_history.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "drivers/qcow2/format.h"
#include "tests/drivers/qcow2/chain_gen.h"
#include "tests/drivers/qcow2/file_bytes.h"
#include "tests/drivers/qcow2/sim_check.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kSmallest = 8192;  // no truncate makes the disk smaller
constexpr int64_t kSecond = 1000000000;

}  // namespace

ImageHistory::ImageHistory(uint64_t seed, Kind kind)
    : kind_(kind),
      world_(seed),
      random_(seed * 31 + static_cast<uint64_t>(kind)),
      elsewhere_(&world_.AddLoop("elsewhere")),
      chain_(&world_),
      model_(chain_.numbers()),
      resizable_(random_.Chance(0.6) && chain_.resizable()),
      requests_({.base = chain_.base(),
                 .smallest = resizable_ ? kSmallest : chain_.size(),
                 .largest = resizable_ ? chain_.capacity() : chain_.size(),
                 .cluster = chain_.cluster_size(),
                 .all_flags = true,
                 .errors_allowed = [this] { return ErrorsAllowed(); },
                 .forgets =
                     [this] {
                       return disk().options().forgets_failed > 0 &&
                              disk().failed_syncs() > failed_syncs_;
                     },
                 .fail = [this](const std::string& what) { Fail(what); },
                 .trace =
                     [this](const std::string& what) {
                       if (!trace_folder_.empty()) Say(what);
                     }},
                &model_, &random_),
      durable_size_(chain_.size()) {}

std::string ImageHistory::Describe() const {
  return absl::StrCat("seed ", world_.seed(), ", ", chain_.size(), " of ",
                      chain_.capacity(), " bytes from ", chain_.base(),
                      resizable_ ? ", resizable:\n  " : ":\n  ",
                      chain_.description());
}

void ImageHistory::Fail(const std::string& what) {
  if (!failure_.empty()) return;
  failure_ = absl::StrCat(Describe(), "\nin life ", totals_.lives,
                          disk().dead() ? ", after its end" : "", ": ", what);
}

void ImageHistory::Say(const std::string& what) {
  std::printf("%s\n", what.c_str());
}

void ImageHistory::Trace(std::string folder) {
  trace_folder_ = std::move(folder);
  disk().SetTrace([](const std::string& what) { Say(what); });
  Say(Describe());
}

// --- The course --------------------------------------------------------------

std::string ImageHistory::Run() {
  disk().options().write_unit = SimImage::kSector;
  Judge(/*closed=*/false);
  const int64_t lives = kind_ == Kind::kPlain    ? random_.Between(1, 2)
                        : kind_ == Kind::kErrors ? random_.Between(1, 3)
                                                 : random_.Between(2, 5);
  for (int64_t i = 1; i <= lives && failure_.empty() && !spoiled_; ++i) {
    RunLife(PickLife(i == lives));
  }
  // The last one is closed in peace.
  if (failure_.empty() && crashed_ && !spoiled_) RunLife({.requests = 5});
  if (failure_.empty()) JudgeSnapshot();
  if (!chain_.LowerFilesUnchanged()) Fail("a file below has changed");
  totals_.requests = requests_.requests();
  totals_.file_ops = disk().ops_started();
  return failure_;
}

ImageHistory::Life ImageHistory::PickLife(bool last) {
  Life life;
  life.workers = static_cast<int>(random_.Between(1, 8));
  life.requests = static_cast<int>(random_.Between(5, 40));
  const int64_t kind = random_.Below(4);
  life.errors = kind_ == Kind::kErrors || (kind_ == Kind::kMixed && kind == 0);
  if (kind_ == Kind::kPowerCut || (kind_ == Kind::kMixed && kind >= 2)) {
    life.end = End::kPowerCut;
  } else if (kind_ == Kind::kKill || (kind_ == Kind::kMixed && kind == 1)) {
    life.end = End::kKill;
  }
  if (last && random_.Chance(0.5)) life.end = End::kClose;
  // Also while it is being opened, repaired or closed.
  life.ops = random_.Below(int64_t{4} << random_.Between(2, 10));
  if (random_.Chance(0.5)) {
    life.syncs = random_.Below(int64_t{1} << random_.Between(1, 5));
    life.ops = random_.Below(6);
  }
  return life;
}

void ImageHistory::RunLife(const Life& life) {
  ++totals_.lives;
  faulty_ = life.errors;
  if (crashed_ && random_.Chance(0.3)) {
    world_.Run(ReadAfterCrash(/*read_only=*/true));
  }
  if (life.end != End::kClose) {
    const auto crash = [this, end = life.end] { Crash(end); };
    if (life.syncs < 0) {
      disk().AfterOps(life.ops, crash);
    } else {
      disk().AfterSyncs(life.syncs, life.ops, crash);
    }
  }
  if (life.errors) InjectErrors();
  world_.Run(OpenNodes(/*read_only=*/false));
  if (!backends_.empty() && crashed_) {
    world_.Run(ReadAfterCrash(/*read_only=*/false));
  }
  if (!backends_.empty() && !crashed_) RunWorkers(life);
  // Errors may come while closing as well.
  if (random_.Chance(0.5)) disk().ClearFaults();
  world_.Run(CloseNodes());
  disk().ClearFaults();
  if (!disk().dead() && life.end != End::kClose) Crash(life.end);
  // What a failed sync has lost can still be in the page cache.
  lost_ = disk().failed_syncs() > failed_syncs_;
  failed_syncs_ = disk().failed_syncs();
  if (!disk().dead() && lost_) Crash(End::kPowerCut);
  disk().AfterOps(std::numeric_limits<int64_t>::max() / 2, nullptr);
  const bool closed = !disk().dead();
  if (!closed) disk().Restart();
  if (!closed && !cut_ && (lost_ || random_.Chance(0.4))) {
    Crash(End::kPowerCut);
    disk().Restart();
  }
  if (failure_.empty()) Judge(closed && !life.errors);
  faulty_ = false;
}

void ImageHistory::Crash(End end) {
  if (disk().dead()) return;
  crashed_ = ever_crashed_ = true;
  cut_ = end == End::kPowerCut;
  if (cut_) {
    ++totals_.cuts;
    disk().PowerCut();
  } else {
    ++totals_.kills;
    disk().Kill();
  }
}

void ImageHistory::InjectErrors() {
  using Op = FileOp::Kind;
  disk().options().forgets_failed = random_.Chance(0.5) ? 1 : 0;
  static constexpr Op kKinds[] = {Op::kRead, Op::kWrite,    Op::kWrite,
                                  Op::kSync, Op::kAllocate, Op::kTruncate};
  for (int64_t faults = random_.Between(1, 6); faults > 0; --faults) {
    SimFault fault;
    fault.kind = kKinds[random_.Below(6)];
    if (*fault.kind == Op::kSync && random_.Chance(0.5)) {
      fault.kind = Op::kDataSync;
    }
    fault.skip = random_.Below(int64_t{2} << random_.Below(8));
    fault.count = random_.Chance(0.2) ? 20 : 1;
    fault.error = random_.Chance(0.5) ? EIO : ENOSPC;
    disk().Inject(fault);
  }
}

Task<void> ImageHistory::OpenNodes(bool read_only) {
  graph_ = std::make_unique<Graph>(&world_.loop());
  const auto top = co_await chain_.Open(graph_.get(), read_only);
  if (!top.ok()) {
    if (!ErrorsAllowed())
      Fail(absl::StrCat("opening: ", top.status().ToString()));
    co_return;
  }
  Permissions used = kConsistentRead;
  if (!read_only) used |= resizable_ ? kWrite | kResize : kWrite;
  for (int i = 0; i < 2; ++i) {
    auto backend = Backend::Create("history", *top, {used, kAllPermissions});
    if (!backend.ok()) {
      Fail(backend.status().ToString());
      co_return;
    }
    backends_.push_back(*std::move(backend));
  }
  const int64_t size = backends_[0]->size();
  if (!crashed_ && closed_size_ >= 0 && size != closed_size_) {
    Fail(absl::StrCat("closed with ", closed_size_, " bytes, opened with ",
                      size));
  }
}

Task<void> ImageHistory::CloseNodes() {
  // A request that failed to change it, and to change it back, is not judged.
  closed_size_ = backends_.empty() || faulty_ ? -1 : backends_[0]->size();
  backends_.clear();
  const absl::Status closed = co_await graph_->Close();
  if (!closed.ok()) {
    if (!ErrorsAllowed()) Fail(absl::StrCat("closing: ", closed.ToString()));
    crashed_ = ever_crashed_ = true;  // what was not flushed may be lost
    cut_ = false;
  }
  graph_.reset();
}

Task<void> ImageHistory::ReadAfterCrash(bool read_only) {
  if (read_only) co_await OpenNodes(/*read_only=*/true);
  if (backends_.empty()) co_return;
  const int64_t size = backends_[0]->size() - chain_.base();
  if (size < 0 || size > chain_.capacity()) {
    Fail(absl::StrCat("a size that nobody asked for: ", size));
    co_return;
  }
  if (durable_resizes_ == requests_.resizes() && size != durable_size_) {
    Fail(absl::StrCat("the flushed size is lost: ", size, " instead of ",
                      durable_size_));
  }
  std::string content(static_cast<size_t>(size), '?');
  const IoStatus read =
      co_await backends_[0]->Read(chain_.base(), IoView(content.data(), size));
  if (!read.ok() && !ErrorsAllowed()) Fail("reading after a crash fails");
  if (read.ok()) {
    content.resize(static_cast<size_t>(chain_.capacity()), '\0');
    const std::string wrong = model_.CheckDurable(content);
    if (!wrong.empty()) Fail(wrong);
    if (!read_only) {
      model_.GoOnWith(content, /*durable=*/cut_);
      crashed_ = false;
    }
  }
  if (read_only) co_await CloseNodes();
}

void ImageHistory::RunWorkers(const Life& life) {
  running_ = life.workers + 1;
  for (int i = 0; i < life.workers; ++i) {
    const bool away = i % 2 == 1;
    SimLoop& loop = away ? *elsewhere_ : world_.loop();
    Backend* backend = backends_[away ? 1 : 0].get();
    loop.Post([this, backend, requests = life.requests] {
      Spawn(RunWorker(backend, requests));
    });
  }
  world_.loop().Post(
      [this, workers = life.workers] { Spawn(RunDrains(workers)); });
  world_.RunUntil([this] { return running_ == 0; });
  if (random_.Chance(0.2)) world_.Run(Idle());
}

Task<void> ImageHistory::RunWorker(Backend* backend, int requests) {
  for (int i = 0; i < requests && failure_.empty() && !disk().dead(); ++i) {
    if (random_.Chance(0.2)) {
      co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                           random_.Below(5000000));
    }
    if (random_.Chance(0.05)) {
      const int64_t resizes = requests_.resizes();
      // With errors, one that failed may have happened all the same.
      const bool still = requests_.resizing() == 0 && !faulty_;
      const int64_t size = backend->size();
      if (co_await requests_.Flush(backend) && still) {
        durable_size_ = size - chain_.base();
        durable_resizes_ = resizes;
      }
      continue;
    }
    co_await requests_.DoSomething(backend);
  }
  --running_;
}

Task<void> ImageHistory::RunDrains(int64_t users) {
  for (int64_t drains = random_.Below(4); drains > 0; --drains) {
    co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                         random_.Below(20000000));
    co_await requests_.DrainSomething(graph_.get(), users);
  }
  --running_;
}

// Long enough for caches to be given back.
Task<void> ImageHistory::Idle() {
  co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                       150 * kSecond);
}

// --- The judges --------------------------------------------------------------

void ImageHistory::Judge(bool closed) {
  if (!trace_folder_.empty()) {
    const std::string image = chain_.ImageBytes();
    const std::string name =
        absl::StrCat(trace_folder_, "/life", totals_.lives, ".qcow2");
    StoreFile(name, {image.begin(), image.end()});
    Say(absl::StrCat(closed ? "closed: " : "ended: ", name));
  }
  static constexpr char kCopy[] = "judged.img";
  const bool copied = chain_.offset_in_file() > 0;
  if (copied) disk().Create(kCopy, chain_.ImageBytes());
  const absl::StatusOr<CheckReport> report =
      CheckInWorld(world_, copied ? kCopy : chain_.path());
  if (copied) disk().Remove(kCopy);
  if (!report.ok()) {
    Fail(absl::StrCat("checking: ", report.status().ToString()));
    return;
  }
  JudgeReport(*report, closed);
  leaks_ = report->leaks();
  image_end_ = ever_crashed_ ? disk().Image(chain_.path()).size() -
                                   chain_.offset_in_file()
                             : std::numeric_limits<int64_t>::max();
  if (!folder_.empty() && failure_.empty()) JudgeWithQemu(closed);
}

// Behind `end`, where the file ended: a check does not look at counts there. Of
// too many it does not say where they are.
int64_t ImageHistory::LeaksPast(const CheckReport& report, int64_t end) {
  if (report.findings.size() >= CheckReport::kMaxFindings) {
    return report.leaks();
  }
  return std::count_if(report.findings.begin(), report.findings.end(),
                       [end](const Finding& finding) {
                         return finding.kind == FindingKind::kLeak &&
                                finding.at.value() >= end;
                       });
}

void ImageHistory::JudgeReport(const CheckReport& report, bool closed) {
  const bool dirty = report.count(FindingKind::kMarkedDirty) > 0;
  std::string wrong;
  for (int i = 0; i < kFindingKinds; ++i) {
    const auto kind = static_cast<FindingKind>(i);
    int64_t allowed = 0;
    if (kind == FindingKind::kMarkedDirty) {
      allowed = closed ? 0 : 1;
    } else if (kind == FindingKind::kMarkedCorrupt && lost_ &&
               disk().options().forgets_failed > 0) {
      allowed = 1;
      spoiled_ = report.count(kind) > 0;
    } else if (kind == FindingKind::kLeak) {
      allowed = closed ? leaks_ + LeaksPast(report, image_end_)
                       : std::numeric_limits<int64_t>::max();
    } else if (kind == FindingKind::kCopiedClear) {
      allowed =
          closed && !ever_crashed_ ? 0 : std::numeric_limits<int64_t>::max();
    } else if (dirty && (kind == FindingKind::kCopiedSet ||
                         kind == FindingKind::kRefcountTooLow)) {
      allowed = std::numeric_limits<int64_t>::max();
    }
    if (report.count(kind) > allowed) {
      absl::StrAppend(&wrong, "\n  ", NameOf(kind), " ", report.count(kind));
    }
  }
  if (wrong.empty()) return;
  for (size_t i = 0; i < std::min<size_t>(20, report.findings.size()); ++i) {
    const Finding& finding = report.findings[i];
    absl::StrAppend(&wrong, "\n    ", NameOf(finding.kind), " at ",
                    finding.at.value(), ": ", finding.text);
  }
  Fail(absl::StrCat(closed ? "closed" : "crashed", ", a check finds", wrong));
}

// To QEMU a clear COPIED flag is an error, too.
void ImageHistory::JudgeWithQemu(bool closed) {
  const std::string path = folder_ + "/judged.qcow2";
  std::string image = chain_.ImageBytes();
  image.replace(8, 12, std::string(12, '\0'));  // without its backing file
  if ((static_cast<uint8_t>(image[79]) & kIncompatibleDirty) != 0 &&
      image[7] == 3) {
    return;
  }
  StoreFile(path, {image.begin(), image.end()});
  const absl::StatusOr<std::string> errors =
      RunCommand(absl::StrCat("qemu-img check -f qcow2 ", path, " > ", path,
                              ".log 2>&1; [ $? != 1 ] &&"
                              " { grep ERROR ",
                              path, ".log || true; }"));
  if (!errors.ok()) {
    Fail(errors.status().ToString());
    return;
  }
  for (absl::string_view line : absl::StrSplit(*errors, '\n')) {
    const bool copied = absl::StrContains(line, "OFLAG_COPIED") &&
                        absl::StrContains(line, "refcount=1");
    if (line.empty() || (copied && !(closed && !ever_crashed_))) continue;
    Fail(absl::StrCat("qemu-img check says: ", line));
  }
}

// Puts the snapshot's L1 table in the place of the disk's and reads.
void ImageHistory::JudgeSnapshot() {
  if (chain_.snapshot().empty()) return;
  std::string image = chain_.ImageBytes();
  const auto* bytes = reinterpret_cast<const uint8_t*>(image.data());
  const auto table = static_cast<size_t>(LoadBig64(bytes + 64));
  if (LoadBig32(bytes + 60) != 1 || table + 56 > image.size()) {
    Fail("the snapshot table has gone");
    return;
  }
  const std::string l1_offset = image.substr(table, 8);
  const std::string l1_size = image.substr(table + 8, 4);
  image.replace(40, 8, l1_offset);
  image.replace(36, 4, l1_size);
  image.replace(24, 8, image.substr(table + 48, 8));
  const std::string wrong = world_.Run(chain_.CompareSnapshot(image));
  if (!wrong.empty()) Fail(wrong);
}

}  // namespace bgfs::qcow2
