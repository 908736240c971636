// The writing half on a simulated disk, at its worst moments: a few requests,
// once with the power cut at each operation of the disk, once with each write
// failing. The histories find more; these say in which order it went wrong.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/new_image.h"
#include "tests/drivers/qcow2/sim_check.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kCluster = 512;

struct Act {
  enum class Kind : uint8_t { kWrite, kZero, kDiscard, kResize, kFlush };
  Kind kind = Kind::kFlush;
  int64_t offset = 0;  // kResize: the size
  int64_t bytes = 0;
  char fill = '\0';
};

Act Write(int64_t offset, int64_t bytes, char fill) {
  return {Act::Kind::kWrite, offset, bytes, fill};
}
Act Zero(int64_t cluster, int64_t clusters) {
  return {Act::Kind::kZero, cluster * kCluster, clusters * kCluster};
}
Act Discard(int64_t cluster, int64_t clusters) {
  return {Act::Kind::kDiscard, cluster * kCluster, clusters * kCluster};
}
Act Resize(int64_t bytes) { return {Act::Kind::kResize, bytes}; }
const Act kFlush;

// Runs at the same time, over ranges that do not meet.
using Together = std::vector<Act>;

struct Scenario {
  const char* name;
  NewImageOptions image;
  int64_t backing_bytes = 0;  // full of 'z'; 0: none
  std::function<void(NewImage&)> prepare;
  std::vector<Together> steps;
  int64_t header_bytes = 0;  // what the header says the size is; 0: the truth
};

// ---- What the disk may hold after a cut -------------------------------------

class Model {
 public:
  explicit Model(std::string content) : states_({std::move(content)}) {}

  const std::string& now() const { return states_.back(); }
  // Each of these may be on the disk from now on, or not.
  void Begin(const Together& acts) {
    before_ = states_.size() - 1;
    for (const Act& act : acts) Add(act);
  }
  // A flush among them has ended well: what was there before them stays.
  void Flushed() {
    states_.erase(states_.begin(),
                  states_.begin() + static_cast<int64_t>(before_));
    before_ = 0;
  }
  // What no order of the power's choice explains, or empty.
  std::string WrongWith(const std::string& disk) const {
    bool size_known = false;
    for (const auto& state : states_) size_known |= state.size() == disk.size();
    if (!size_known) return absl::StrCat("it has ", disk.size(), " bytes");
    for (size_t i = 0; i < disk.size(); ++i) {
      const bool explained =
          std::any_of(states_.begin(), states_.end(), [&](const auto& state) {
            return i < state.size() && state[i] == disk[i];
          });
      if (!explained) {
        return absl::StrCat("byte ", i, " is ", int{disk[i]}, ", last ",
                            i < now().size() ? int{now()[i]} : -1);
      }
    }
    return "";
  }

 private:
  void Add(const Act& act) {
    if (act.kind == Act::Kind::kFlush) return;
    const std::string old = now();
    const auto from = static_cast<size_t>(act.offset);
    const size_t to = from + static_cast<size_t>(act.bytes);
    if (act.kind == Act::Kind::kResize && from < old.size()) {
      states_.push_back(old.substr(0, from));
      return;
    }
    // First it grows, up to the gap and then over it.
    for (const size_t size : {from, to}) {
      if (size <= now().size()) continue;
      states_.push_back(now());
      states_.back().resize(size);
    }
    states_.push_back(now());
    std::fill_n(states_.back().begin() + act.offset, act.bytes, act.fill);
  }

  std::vector<std::string> states_;
  size_t before_ = 0;
};

// ---- Running ----------------------------------------------------------------

std::string SpecOf(const Scenario& scenario, bool read_only) {
  return absl::StrCat(
      "read_only: ", read_only ? "true" : "false",
      " discard: UNMAP qcow2 { file { filename: \"top\" } ",
      scenario.backing_bytes == 0
          ? ""
          : "backing_inline { raw { file { filename: \"base\" } } } ",
      "}");
}

Task<std::unique_ptr<Backend>> Open(Graph* graph, std::string spec) {
  const OpenContext context;
  const proto::Node node_spec = ParseNode(spec);
  auto node = co_await OpenNode(*graph, node_spec, context);
  if (!node.ok()) co_return nullptr;
  const Permissions used =
      node_spec.read_only() ? Permissions{kConsistentRead} : kReadWrite;
  auto backend = Backend::Create("test", *node, {used, kAllPermissions});
  if (!backend.ok()) co_return nullptr;
  co_return *std::move(backend);
}

Task<IoStatus> Do(Backend* backend, Act act) {
  switch (act.kind) {
    case Act::Kind::kWrite: {
      std::string data(static_cast<size_t>(act.bytes), act.fill);
      co_return co_await backend->Write(act.offset,
                                        IoView(data.data(), act.bytes));
    }
    case Act::Kind::kZero:
      co_return co_await backend->Zero(act.offset, act.bytes);
    case Act::Kind::kDiscard:
      co_return co_await backend->Discard(act.offset, act.bytes);
    case Act::Kind::kResize:
      co_return co_await backend->Truncate(act.offset, /*exact=*/true);
    case Act::Kind::kFlush:
      break;
  }
  co_return co_await backend->Flush();
}

Task<void> DoTo(Backend* backend, Act act, bool again, bool* flushed,
                InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  IoStatus status = co_await Do(backend, act);
  if (again && !status.ok()) status = co_await Do(backend, act);
  if (again) EXPECT_TRUE(status.ok()) << status.error();
  if (status.ok() && act.kind == Act::Kind::kFlush) *flushed = true;
}

class Life {
 public:
  Life(SimWorld* world, const Scenario* scenario)
      : world_(*world), scenario_(*scenario) {}

  void Create(const std::string& bytes) {
    world_.disk().options().write_unit = SimImage::kSector;
    world_.disk().Create("top", bytes);
    world_.disk().Create(
        "base", std::string(static_cast<size_t>(scenario_.backing_bytes), 'z'));
  }
  // Runs all steps and closes the image. `again`: what fails is tried once
  // more, and then has to succeed.
  void Run(Model* model, bool again = false) {
    world_.Run(RunSteps(model, again));
  }
  std::string ReadDisk() { return world_.Run(ReadAll()); }
  // The disk as the snapshot shows it: with its L1 table in the header. Empty
  // if there is none.
  std::string ReadSnapshot() {
    constexpr int64_t kCountAt = 60;
    constexpr int64_t kTableAt = 64;
    const std::string now = world_.disk().Content("top");
    const auto* bytes = reinterpret_cast<const uint8_t*>(now.data());
    if (LoadBig32(bytes + kCountAt) == 0) return "";
    const uint64_t table = LoadBig64(bytes + kTableAt);
    std::string then = now;
    then.replace(kL1TableAt, 8, now, table, 8);
    then.replace(kL1SizeAt, 4, now, table + 8, 4);
    Put(then);
    std::string content = ReadDisk();
    Put(now);
    return content;
  }

 private:
  Task<void> RunSteps(Model* model, bool again) {
    Graph graph(&world_.loop());
    auto backend = co_await Open(&graph, SpecOf(scenario_, false));
    if (backend != nullptr) {
      for (const Together& acts : scenario_.steps) {
        model->Begin(acts);
        bool flushed = false;
        InFlight running;
        for (const Act& act : acts) {
          Spawn(DoTo(backend.get(), act, again, &flushed, running.Hold()));
        }
        co_await running.WaitIdle();
        if (flushed && !world_.disk().dead()) model->Flushed();
      }
    }
    if (again) world_.disk().ClearFaults();
    backend.reset();
    (co_await graph.Close()).IgnoreError();
  }

  Task<std::string> ReadAll() {
    Graph graph(&world_.loop());
    auto backend = co_await Open(&graph, SpecOf(scenario_, true));
    std::string content = "cannot be opened";
    if (backend != nullptr) {
      content.assign(static_cast<size_t>(backend->size()), '?');
      const IoStatus status = co_await backend->Read(
          0, IoView(content.data(), static_cast<int64_t>(content.size())));
      if (!status.ok()) content = "cannot be read";
    }
    backend.reset();
    (co_await graph.Close()).IgnoreError();
    co_return content;
  }

  void Put(const std::string& bytes) {
    world_.disk().Remove("top");
    world_.disk().Create("top", bytes);
  }

  SimWorld& world_;
  const Scenario& scenario_;
};

// ---- Scenarios --------------------------------------------------------------

NewImageOptions Small(int64_t size_bytes, int refcount_order = 4) {
  NewImageOptions options;
  options.cluster_bits = 9;
  options.refcount_order = refcount_order;
  options.size_bytes = size_bytes;
  options.autoclear = uint64_t{1} << 40;
  return options;
}

void SetRun(NewImage& image, int64_t first, int64_t count, char fill) {
  for (int64_t i = first; i < first + count; ++i) {
    image.SetData(i, std::string(kCluster, fill));
  }
}

// Clusters come, go, and are used again.
const std::vector<Together>& ComingAndGoing() {
  static const std::vector<Together> steps = {
      {Write(0, 512, 'b'), Write(127 * kCluster, 200, 't')},
      {Write(1124, 300, 'c'), Write(40 * kCluster, 2000, 'd')},
      {kFlush},
      {Write(45 * kCluster + 10, 3000, 'e'), kFlush},
      {Discard(0, 2), Discard(40, 2)},
      {kFlush},
      {Write(70 * kCluster, 4096, 'f'), Write(4 * kCluster, 99, 'g')},
      {kFlush, Write(60 * kCluster, 700, 'h'), Discard(3, 1)},
      {Zero(2, 4), Write(90 * kCluster, 1000, 'i'), kFlush},
      {Write(100 * kCluster, 5000, 'j'), Discard(45, 4)},
      {kFlush},
      {Write(20 * kCluster, 3000, 'k')},
      // In one cluster, and beside an extent that lies in place.
      {Write(110 * kCluster, 100, 'l'), Write(110 * kCluster + 200, 99, 'm'),
       Write(110 * kCluster + 300, 600, 'n'), Write(121 * kCluster, 512, 'o')},
      {Write(120 * kCluster + 10, 1500, 'p'),
       Write(122 * kCluster + 490, 20, 'q')},
      // In two tables.
      {Write(62 * kCluster + 10, 2000, 'r')},
  };
  return steps;
}

std::vector<Together> Resizing() {
  return {
      {Resize(60 * kCluster)},
      {Write(55 * kCluster + 7, 700, 'b')},
      {kFlush},
      {Resize(200 * kCluster + 50)},
      {Write(150 * kCluster, 1500, 'c')},
      {kFlush},
      {Resize(30 * kCluster + 5)},
      {kFlush},
      {Write(35 * kCluster, 100, 'd')},
      {Resize(50 * kCluster)},
      {kFlush},
  };
}

std::vector<Scenario> Scenarios() {
  const auto few = [](NewImage& image) { SetRun(image, 0, 6, 'a'); };
  const auto some = [](NewImage& image) {
    SetRun(image, 0, 6, 'a');
    image.SetZeroAllocated(46);
    image.SetCompressed(20, std::string(kCluster, 'p'));
    image.SetCompressed(21, std::string(kCluster, 'q'));
    image.Skip(12);
  };
  const auto shared = [](NewImage& image) {
    SetRun(image, 0, 24, 'a');
    SetRun(image, 70, 3, 'a');
    image.TakeSnapshot("one");
    SetRun(image, 1, 1, 'n');
  };
  const auto full = [](NewImage& image) {
    SetRun(image, 0, 6, 'a');
    image.Leak(232);
  };
  const auto full_table = [](NewImage& image) {
    SetRun(image, 0, 6, 'a');
    image.Leak(4008);
  };
  const auto all = [](NewImage& image) {
    SetRun(image, 0, image.guest_clusters(), 'a');
  };
  return {
      {"Alone", Small(128 * kCluster), 0, some, ComingAndGoing()},
      {"OverALayer", Small(128 * kCluster), 50 * kCluster + 100, some,
       ComingAndGoing()},
      {"WithASnapshot", Small(128 * kCluster), 0, shared, ComingAndGoing()},
      {"NewRefcountBlock", Small(128 * kCluster), 0, full, ComingAndGoing()},
      {"NewRefcountTable", Small(128 * kCluster, 6), 0, full_table,
       ComingAndGoing()},
      {"Resized", Small(40 * kCluster + 100), 0, all, Resizing()},
      // As another program may have left it.
      {"MappedPastTheEnd", Small(64 * kCluster), 0, all, Resizing(),
       40 * kCluster + 100},
      {"ResizedOverALongerLayer", Small(40 * kCluster + 100), 180 * kCluster,
       few, Resizing()},
  };
}

class WriterCut : public ::testing::TestWithParam<Scenario> {
 protected:
  WriterCut() {
    NewImage image(GetParam().image);
    GetParam().prepare(image);
    bytes_ = image.Finish();
    if (GetParam().header_bytes > 0) {
      StoreBig64(reinterpret_cast<uint8_t*>(&bytes_[kSizeAt]),
                 static_cast<uint64_t>(GetParam().header_bytes));
    }
    SimWorld world(1);
    Life life(&world, &GetParam());
    life.Create(bytes_);
    const CheckReport report = *CheckInWorld(world, "top");
    leaks_ = report.leaks();
    content_ = life.ReadDisk();
    snapshot_ = life.ReadSnapshot();
  }

  // Leaks and clear flags are allowed, nothing else.
  static void ExpectSound(SimWorld& world) {
    absl::StatusOr<CheckReport> report = CheckInWorld(world, "top");
    ASSERT_TRUE(report.ok()) << report.status();
    report->Forget(FindingKind::kCopiedClear);
    EXPECT_EQ(report->corruptions(), 0) << report->findings.front().text;
    EXPECT_EQ(report->count(FindingKind::kMarkedCorrupt), 0);
  }
  void ExpectClean(SimWorld& world) const {
    const absl::StatusOr<CheckReport> report = CheckInWorld(world, "top");
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->corruptions(), 0) << report->findings.front().text;
    EXPECT_EQ(report->leaks(), leaks_);
  }

  void EachFailsOnce(FileOp::Kind kind, int64_t operations) const {
    for (int64_t i = 0; i < operations && !HasFailure(); ++i) {
      SCOPED_TRACE(i);
      SimWorld world(static_cast<uint64_t>(i) + 1);
      Life life(&world, &GetParam());
      life.Create(bytes_);
      world.disk().Inject({.path = "top", .kind = kind, .skip = i});
      Model model(content_);
      life.Run(&model, /*again=*/true);
      ExpectClean(world);
      EXPECT_TRUE(life.ReadDisk() == model.now());
      EXPECT_TRUE(life.ReadSnapshot() == snapshot_);
    }
  }

  std::string bytes_;
  std::string content_;
  std::string snapshot_;
  int64_t leaks_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Scenarios, WriterCut, testing::ValuesIn(Scenarios()),
                         [](const auto& info) { return info.param.name; });

TEST_P(WriterCut, AtEveryOperation) {
  // Each moment several times: the power takes other things each time.
  constexpr int64_t kTries = 4;
  bool cut = true;
  for (int64_t i = 0; cut && !HasFailure(); ++i) {
    SCOPED_TRACE(i);
    SimWorld world(static_cast<uint64_t>(i) + 1);
    Life life(&world, &GetParam());
    life.Create(bytes_);
    world.disk().AfterOps(i / kTries, [&world] { world.disk().PowerCut(); });
    Model model(content_);
    life.Run(&model);
    cut = world.disk().dead();
    if (cut) world.disk().Restart();
    world.disk().AfterOps(1 << 20, [] {});
    ExpectSound(world);
    const std::string disk = life.ReadDisk();
    EXPECT_EQ(model.WrongWith(disk), "");
    EXPECT_TRUE(life.ReadSnapshot() == snapshot_);
    if (disk != content_) {
      EXPECT_EQ(world.disk().Content("top").substr(kAutoclearAt, 8),
                std::string(8, '\0'));
    }
    if (cut) continue;
    EXPECT_TRUE(disk == model.now());
    ExpectClean(world);
  }
}

// What an operation that fails leaves in memory is written by the next flush.
TEST_P(WriterCut, EachWriteFailsOnce) {
  EachFailsOnce(FileOp::Kind::kWrite, 120);
}
TEST_P(WriterCut, EachReadFailsOnce) { EachFailsOnce(FileOp::Kind::kRead, 60); }

}  // namespace
}  // namespace bgfs::qcow2
