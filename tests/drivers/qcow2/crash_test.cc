// What histories (image_history.h) have found, step by step: an image in a
// simulated world, a few requests, and a power cut at each operation of them;
// then what requests leave behind and what they cost.

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/new_image.h"
#include "tests/drivers/qcow2/sim_check.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kCluster = 512;

Task<absl::StatusOr<Node*>> OpenNodes(Graph* graph, bool backing) {
  const OpenContext context;
  if (backing) {
    const proto::Node base = ParseNode(
        "node_name: \"base\" read_only: true raw { file { filename: \"base\" } "
        "}");
    const auto node = co_await OpenNode(*graph, base, context);
    if (!node.ok()) co_return node.status();
  }
  const proto::Node top = ParseNode(absl::StrCat(
      "read_only: false discard: UNMAP qcow2 { file { filename: \"top\" } ",
      backing ? "backing: \"base\"" : "", " }"));
  co_return co_await OpenNode(*graph, top, context);
}

using Steps = absl::FunctionRef<Task<void>(Backend&)>;

// Opens the image, does the steps, closes it; all of it may fail when the disk
// is dead.
Task<void> Live(SimWorld* world, bool backing, Steps steps) {
  Graph graph(&world->loop());
  const auto node = co_await OpenNodes(&graph, backing);
  EXPECT_TRUE(node.ok() || world->disk().dead()) << node.status();
  if (node.ok()) {
    auto backend =
        Backend::Create("test", *node, {kReadWrite, kAllPermissions});
    EXPECT_TRUE(backend.ok()) << backend.status();
    co_await steps(**backend);
    backend->reset();
  }
  const absl::Status closed = co_await graph.Close();
  EXPECT_TRUE(closed.ok() || world->disk().dead()) << closed;
}

Task<void> ReadAll(Backend& backend, std::string* content) {
  content->assign(static_cast<size_t>(backend.size()), '?');
  const IoStatus status =
      co_await backend.Read(0, IoView(content->data(), std::ssize(*content)));
  EXPECT_EQ(status.error(), 0);
}

// Nothing but leaks and clear COPIED flags.
void ExpectConsistent(SimWorld* world) {
  const absl::StatusOr<CheckReport> report = CheckInWorld(*world, "top");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->corruptions(), report->count(FindingKind::kCopiedClear))
      << report->findings[0].text;
}

struct Cuts {
  uint64_t seeds = 20;
  int64_t first_cut = 0;  // before this operation
};

// For each operation of `steps` and several seeds, what the disk shows after
// the power was cut there.
void AtEachCut(const std::string& image, const std::string& backing,
               Steps steps, absl::FunctionRef<void(const std::string&)> judge,
               Cuts cuts = {}) {
  bool cut = true;
  for (int64_t ops = cuts.first_cut; cut; ++ops) {
    cut = false;
    for (uint64_t seed = 1; seed <= cuts.seeds; ++seed) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, ", cut before operation ", ops));
      SimWorld world(seed);
      world.disk().options().write_unit = SimImage::kSector;
      world.disk().Create("top", image);
      world.disk().Create("base", backing);
      world.disk().AfterOps(ops, [&world] { world.disk().PowerCut(); });
      world.Run(Live(&world, !backing.empty(), steps));
      cut = cut || world.disk().dead();
      if (!world.disk().dead()) world.disk().PowerCut();
      world.disk().Restart();
      world.disk().AfterOps(int64_t{1} << 40, nullptr);
      ExpectConsistent(&world);
      std::string content;
      const auto read = [&content](Backend& backend) {
        return ReadAll(backend, &content);
      };
      world.Run(Live(&world, !backing.empty(), read));
      judge(content);
      if (testing::Test::HasFailure()) return;
    }
  }
}

Task<void> ShrinkToOneCluster(Backend& backend) {
  (co_await backend.Truncate(kCluster, /*exact=*/true)).Ignore();
}

// Cut off, a shrink has happened or not; the layer below stays hidden. Version
// 2 has no zero clusters to hide it with.
TEST(Crash, AShrinkThatIsCutOffShowsNoBacking) {
  for (const int version : {2, 3}) {
    NewImage image({.version = version,
                    .cluster_bits = 9,
                    .size_bytes = 8 * kCluster,
                    .backing_name = "base"});
    for (int64_t i = 0; i < 8; ++i) {
      image.SetData(i, std::string(kCluster, 'o'));
    }
    AtEachCut(image.Finish(), std::string(8 * kCluster, 'b'),
              ShrinkToOneCluster, [](const std::string& content) {
                EXPECT_EQ(content.find_first_not_of('o'), std::string::npos);
              });
  }
}

Task<void> ZeroOverTheEnd(Backend& backend) {
  (co_await backend.Zero(kCluster, kCluster)).Ignore();
}

Task<void> DiscardAndGrow(Backend& backend) {
  (co_await backend.Discard(kCluster, kCluster / 2)).Ignore();
  (co_await backend.Truncate(4 * kCluster, /*exact=*/true)).Ignore();
}

Task<void> DiscardShrinkAndGrow(Backend& backend) {
  (co_await backend.Discard(kCluster, kCluster / 2)).Ignore();
  (co_await backend.Truncate(kCluster, /*exact=*/true)).Ignore();
  (co_await backend.Truncate(4 * kCluster, /*exact=*/true)).Ignore();
}

// The rest of the last cluster is full of what was there before.
TEST(Crash, GrowingNeverShowsWhatLiesBehindTheEnd) {
  for (Task<void> (*steps)(Backend&) :
       {ZeroOverTheEnd, DiscardAndGrow, DiscardShrinkAndGrow}) {
    NewImage image({.cluster_bits = 9, .size_bytes = kCluster + kCluster / 2});
    image.SetData(0, std::string(kCluster, 'o'));
    image.SetData(1, std::string(kCluster, 'x'));
    AtEachCut(image.Finish(), "", steps, [](const std::string& content) {
      EXPECT_EQ(content.find('x', kCluster + kCluster / 2), std::string::npos);
    });
  }
}

// Compressed data takes up 400 bytes or so, and cannot be read once a hole is
// in it.
std::string Compressible(char salt) {
  std::string content(kCluster, '\0');
  SimRandom random(static_cast<uint64_t>(salt));
  for (size_t i = 0; i < 380; ++i) {
    content[i] = static_cast<char>(random.Next());
  }
  return content;
}

Task<void> ReplaceAndFlush(Backend& backend) {
  std::string data(2 * kCluster, 'n');
  (co_await backend.Write(0, IoView(data.data(), kCluster))).Ignore();
  (co_await backend.Write(4 * kCluster, IoView(data.data(), 2 * kCluster)))
      .Ignore();
  (co_await backend.Flush()).Ignore();
  (co_await backend.Write(10 * kCluster, IoView(data.data(), kCluster)))
      .Ignore();
}

// Growing commits, and flushes for itself.
Task<void> ReplaceAndGrow(Backend& backend) {
  std::string data(kCluster, 'n');
  for (const int64_t i : {0, 1, 4, 5}) {
    (co_await backend.Write(i * kCluster, IoView(data.data(), kCluster)))
        .Ignore();
  }
  (co_await backend.Truncate(20 * kCluster, /*exact=*/true)).Ignore();
}

// What was freed is punched, and used again, once nothing on the disk refers
// to it.
TEST(Crash, WhatIsReplacedStaysUntilItIsReplacedOnTheDisk) {
  for (Task<void> (*steps)(Backend&) : {ReplaceAndFlush, ReplaceAndGrow}) {
    NewImage image({.cluster_bits = 9, .size_bytes = 16 * kCluster});
    for (int64_t i = 0; i < 6; ++i) {
      image.SetCompressed(i, Compressible(static_cast<char>('0' + i)));
    }
    AtEachCut(
        image.Finish(), "", steps,
        [](const std::string& content) {
          for (int64_t i = 0; i < 6; ++i) {
            const std::string cluster = content.substr(i * kCluster, kCluster);
            EXPECT_TRUE(cluster == std::string(kCluster, 'n') ||
                        cluster == Compressible(static_cast<char>('0' + i)))
                << "cluster " << i;
          }
        },
        {.seeds = 40});
  }
}

// --- Errors ------------------------------------------------------------------

// Writes behind the size that a truncate failed to set; a flush says that it is
// there to stay.
Task<void> FailToShrink(Backend& backend, SimDisk* disk, bool* flushed) {
  std::string data(kCluster, 'n');
  disk->Inject({.kind = FileOp::Kind::kWrite, .bytes = kCluster});
  EXPECT_NE((co_await backend.Truncate(kCluster, /*exact=*/true)).error(), 0);
  EXPECT_EQ(
      (co_await backend.Write(5 * kCluster, IoView(data.data(), kCluster)))
          .error(),
      0);
  *flushed = (co_await backend.Flush()).ok();
  disk->PowerCut();
}

TEST(Crash, ASizeThatFailedIsSettledBeforeAFlush) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SimWorld world(seed);
    world.disk().options().write_unit = SimImage::kSector;
    NewImage image({.cluster_bits = 9, .size_bytes = 8 * kCluster});
    image.SetData(0, std::string(kCluster, 'o'));
    world.disk().Create("top", image.Finish());
    bool flushed = false;
    const auto steps = [&](Backend& backend) {
      return FailToShrink(backend, &world.disk(), &flushed);
    };
    world.Run(Live(&world, /*backing=*/false, steps));
    EXPECT_TRUE(flushed);
    world.disk().Restart();
    std::string content;
    const auto read = [&content](Backend& backend) {
      return ReadAll(backend, &content);
    };
    world.Run(Live(&world, /*backing=*/false, read));
    ASSERT_EQ(content.size(), 8 * kCluster) << "seed " << seed;
    ASSERT_EQ(content.substr(5 * kCluster, kCluster),
              std::string(kCluster, 'n'));
  }
}

// Writes over the border of two tables while a read fails: what was not written
// is told.
Task<void> WriteOverABorder(Backend& backend, SimDisk* disk, int64_t reads) {
  std::string data(2 * kCluster, 'n');
  disk->Inject({.kind = FileOp::Kind::kRead, .skip = reads});
  const IoStatus status =
      co_await backend.Write(63 * kCluster, IoView(data.data(), 2 * kCluster));
  disk->ClearFaults();
  if (!status.ok()) co_return;
  std::string content;
  co_await ReadAll(backend, &content);
  EXPECT_TRUE(content.substr(63 * kCluster, 2 * kCluster) == data);
}

TEST(Crash, AWriteWhoseSecondTableCannotBeReadFails) {
  for (int64_t reads = 0; reads < 10; ++reads) {
    SCOPED_TRACE(reads);
    SimWorld world(1);
    NewImage image({.cluster_bits = 9, .size_bytes = 128 * kCluster});
    for (const int64_t i : {0, 64}) {
      image.SetData(i, std::string(kCluster, 'o'));
    }
    world.disk().Create("top", image.Finish());
    const auto steps = [&](Backend& backend) {
      return WriteOverABorder(backend, &world.disk(), reads);
    };
    world.Run(Live(&world, /*backing=*/false, steps));
  }
}

// --- The order of writes -----------------------------------------------------

Task<void> WriteEverywhere(Backend& backend) {
  std::string data(kCluster, 'n');
  for (int64_t at = 0; at < backend.size(); at += 16 * kCluster) {
    (co_await backend.Write(at, IoView(data.data(), kCluster))).Ignore();
  }
  (co_await backend.Flush()).Ignore();
  (co_await backend.Discard(0, backend.size() / 2)).Ignore();
  (co_await backend.Write(0, IoView(data.data(), kCluster))).Ignore();
  (co_await backend.Flush()).Ignore();
}

void ExpectOldOrNew(const std::string& content) {
  for (size_t at = 0; at < content.size(); at += kCluster) {
    const std::string cluster = content.substr(at, kCluster);
    EXPECT_EQ(cluster, std::string(kCluster, cluster[0])) << at;
    EXPECT_TRUE(cluster[0] == 'o' || cluster[0] == 'n' || cluster[0] == '\0');
  }
}

// Counts of 64 bits: a block counts 64 clusters. Those that are made here are
// known on the disk before anything is that they count.
TEST(Crash, NewBlocksAreDurableBeforeWhatTheyCount) {
  for (const int64_t leaked : {0, 30}) {
    NewImage image({.cluster_bits = 9,
                    .refcount_order = 6,
                    .size_bytes = 1024 * kCluster});
    image.SetData(5, std::string(kCluster, 'o'));
    image.Leak(leaked);
    AtEachCut(image.Finish(), "", WriteEverywhere, ExpectOldOrNew,
              {.seeds = 10});
  }
}

Task<void> WriteFourAndOne(Backend& backend) {
  std::string data(4 * kCluster, 'n');
  (co_await backend.Write(6 * kCluster, IoView(data.data(), 4 * kCluster)))
      .Ignore();
  (co_await backend.Flush()).Ignore();
  (co_await backend.Discard(0, backend.size() / 2)).Ignore();
  (co_await backend.Write(0, IoView(data.data(), kCluster))).Ignore();
  (co_await backend.Flush()).Ignore();
}

// A cluster of the refcount table knows 64 blocks: the first write finds it
// full, after it has read all of them.
TEST(Crash, ATableThatMovesIsDurableBeforeTheHeaderTellsOfIt) {
  NewImage image(
      {.cluster_bits = 9, .refcount_order = 6, .size_bytes = 32 * kCluster});
  image.SetData(5, std::string(kCluster, 'o'));
  image.Leak(4026);
  AtEachCut(image.Finish(), "", WriteFourAndOne, ExpectOldOrNew,
            {.seeds = 10, .first_cut = 64});
}

Task<void> WriteAll(Backend& backend) {
  std::string data(static_cast<size_t>(backend.size()), 'n');
  const IoStatus status =
      co_await backend.Write(0, IoView(data.data(), backend.size()));
  EXPECT_EQ(status.error(), 0);
}

// More blocks come before the header tells of the new table.
TEST(Crash, ATableThatMovesKnowsTheBlocksThatComeAfterIt) {
  NewImage image(
      {.cluster_bits = 9, .refcount_order = 6, .size_bytes = 256 * kCluster});
  image.Leak(4020);
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  world.Run(Live(&world, /*backing=*/false, WriteAll));
  ExpectConsistent(&world);
}

Task<void> TruncateAgainAndAgain(Backend* backend, InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  const int64_t clusters = backend->size() / kCluster;
  for (int64_t i = 0; i < 60; ++i) {
    const IoStatus status = co_await backend->Truncate(
        (clusters + i % 7) * kCluster, /*exact=*/true);
    EXPECT_EQ(status.error(), 0);
  }
}

Task<void> WriteAndTruncate(Backend& backend) {
  InFlight running;
  Spawn(TruncateAgainAndAgain(&backend, running.Hold()));
  co_await WriteEverywhere(backend);
  co_await running.WaitIdle();
}

// The size and the refcount table stand in the same bytes of the header.
TEST(Crash, ATableThatMovesAndASizeThatChangesKeepEachOther) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    SimWorld world(seed);
    NewImage image({.cluster_bits = 9,
                    .refcount_order = 6,
                    .size_bytes = 1024 * kCluster});
    image.Leak(3990);
    world.disk().Create("top", image.Finish());
    world.Run(Live(&world, /*backing=*/false, WriteAndTruncate));
    ExpectConsistent(&world);
    if (testing::Test::HasFailure()) return;
  }
}

// Tables and data that a snapshot shares are copied, and their counts fall.
TEST(Crash, WhatASnapshotSharesStays) {
  NewImage image({.cluster_bits = 9, .size_bytes = 200 * kCluster});
  for (int64_t i = 0; i < 200; i += 8) {
    image.SetData(i, std::string(kCluster, 'o'));
  }
  image.TakeSnapshot("one");
  AtEachCut(image.Finish(), "", WriteEverywhere, ExpectOldOrNew);
}

Task<void> GrowTwice(Backend& backend) {
  std::string data(kCluster, 'n');
  for (const int64_t clusters : {300, 9000}) {
    (co_await backend.Truncate(clusters * kCluster, /*exact=*/true)).Ignore();
    (co_await backend.Write((clusters - 1) * kCluster,
                            IoView(data.data(), kCluster)))
        .Ignore();
    (co_await backend.Flush()).Ignore();
  }
}

// In its place, where there is room for more entries, and to another.
TEST(Crash, TheL1TableMovesWhole) {
  NewImage image({.cluster_bits = 9, .size_bytes = 100 * kCluster});
  image.SetData(5, std::string(kCluster, 'o'));
  AtEachCut(image.Finish(), "", GrowTwice, ExpectOldOrNew);
}

Task<void> GrowToManyTables(Backend& backend) {
  constexpr int64_t kSize = int64_t{256} << 20;
  std::string data(kCluster, 'n');
  (co_await backend.Truncate(kSize, /*exact=*/true)).Ignore();
  (co_await backend.Write(kSize - kCluster, IoView(data.data(), kCluster)))
      .Ignore();
  (co_await backend.Flush()).Ignore();
}

Task<void> ReadClusterFive(Backend& backend, std::string* content) {
  content->assign(kCluster, '?');
  const IoStatus status = co_await backend.Read(
      5 * kCluster, IoView(content->data(), std::ssize(*content)));
  EXPECT_EQ(status.error(), 0);
}

// An L1 table of 128 clusters, where a refcount block counts 64.
TEST(Crash, AnL1TableMayBeLongerThanABlockCounts) {
  NewImage image(
      {.cluster_bits = 9, .refcount_order = 6, .size_bytes = 100 * kCluster});
  image.SetData(5, std::string(kCluster, 'o'));
  const std::string bytes = image.Finish();
  bool cut = true;
  for (int64_t ops = 0; cut; ++ops) {
    SCOPED_TRACE(absl::StrCat("cut before operation ", ops));
    SimWorld world(static_cast<uint64_t>(ops) + 1);
    world.disk().options().write_unit = SimImage::kSector;
    world.disk().Create("top", bytes);
    world.disk().AfterOps(ops, [&world] { world.disk().PowerCut(); });
    world.Run(Live(&world, /*backing=*/false, GrowToManyTables));
    cut = world.disk().dead();
    if (cut) world.disk().Restart();
    world.disk().AfterOps(int64_t{1} << 40, nullptr);
    ExpectConsistent(&world);
    std::string content;
    world.Run(Live(&world, /*backing=*/false, [&content](Backend& backend) {
      return ReadClusterFive(backend, &content);
    }));
    EXPECT_EQ(content, std::string(kCluster, 'o'));
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

// More free clusters that stand alone than are remembered.
TEST(Crash, AnL1TableFindsRoomBehindManyHoles) {
  NewImage image({.cluster_bits = 9, .size_bytes = 100 * kCluster});
  image.SetData(5, std::string(kCluster, 'o'));
  for (int i = 0; i < 5000; ++i) {
    image.Skip(1);
    image.Leak(1);
  }
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  world.Run(Live(&world, /*backing=*/false, GrowTwice));
  ExpectConsistent(&world);
  std::string content;
  world.Run(Live(&world, /*backing=*/false, [&content](Backend& backend) {
    return ReadAll(backend, &content);
  }));
  EXPECT_EQ(content.size(), 9000 * kCluster);
  EXPECT_EQ(content.substr(5 * kCluster, kCluster), std::string(kCluster, 'o'));
}

// A snapshot of version 2 is as long as the disk is; QEMU resizes neither.
TEST(Resize, AVersion2ImageWithSnapshotsKeepsItsSize) {
  NewImage image({.version = 2, .cluster_bits = 9, .size_bytes = 8 * kCluster});
  image.SetData(7, std::string(kCluster, 'o'));
  image.TakeSnapshot("one");
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  world.Run(Live(&world, /*backing=*/false, [](Backend& b) -> Task<void> {
    std::string data(2 * kCluster, 'n');
    const IoView view(data.data(), std::ssize(data));
    EXPECT_EQ((co_await b.Truncate(kCluster, /*exact=*/true)).error(), ENOTSUP);
    EXPECT_EQ((co_await b.Truncate(9 * kCluster, /*exact=*/true)).error(),
              ENOTSUP);
    EXPECT_EQ((co_await b.Write(7 * kCluster, view)).error(), ENOTSUP);
    EXPECT_EQ((co_await b.Write(6 * kCluster, view)).error(), 0);
    EXPECT_EQ(b.size(), 8 * kCluster);
  }));
  ExpectConsistent(&world);
}

TEST(Check, ReadsNothingBehindTheEndOfTheFile) {
  NewImage image({.cluster_bits = 9, .size_bytes = 8 * kCluster});
  image.SetData(0, "data");
  image.TakeSnapshot("one");
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  const absl::StatusOr<CheckReport> report = CheckInWorld(world, "top");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->clean());
}

// --- Copy-on-read -----------------------------------------------------------

Task<void> ReadUp(Backend& backend) {
  std::string seen(1100, '?');
  const IoStatus status = co_await backend.Read(
      5 * kCluster + 400, IoView(seen.data(), std::ssize(seen)), kCopyOnRead);
  EXPECT_EQ(status.error(), 0);
  EXPECT_EQ(seen, std::string(1100, 'b'));
  // Zeros take no cluster.
  EXPECT_EQ(
      (co_await backend.Read(
           40 * kCluster, IoView(seen.data(), std::ssize(seen)), kCopyOnRead))
          .error(),
      0);
  EXPECT_EQ(seen, std::string(1100, '\0'));
}

// Whole clusters, those that the read touched and no others, and only once.
TEST(CopyOnRead, LeavesWhatWasReadInTheImage) {
  NewImage image({.cluster_bits = 9,
                  .size_bytes = 64 * kCluster,
                  .backing_name = "base",
                  .backing_format = "raw"});
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  world.disk().Create("base", std::string(32 * kCluster, 'b') +
                                  std::string(32 * kCluster, '\0'));
  world.Run(Live(&world, /*backing=*/true, ReadUp));
  const int64_t length = world.disk().Image("top").size();
  world.Run(Live(&world, /*backing=*/true, ReadUp));
  EXPECT_EQ(world.disk().Image("top").size(), length);
  ExpectConsistent(&world);
  world.disk().Remove("base");
  world.disk().Create("base", std::string(64 * kCluster, 'o'));
  std::string content;
  world.Run(Live(&world, /*backing=*/true, [&content](Backend& backend) {
    return ReadAll(backend, &content);
  }));
  std::string expected(64 * kCluster, 'o');
  expected.replace(5 * kCluster, 3 * kCluster, 3 * kCluster, 'b');
  expected.replace(40 * kCluster, 3 * kCluster, 3 * kCluster, '\0');
  EXPECT_TRUE(content == expected);
}

// --- Claims ------------------------------------------------------------------

Task<void> ReadAt(Backend* backend, int64_t offset, InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  std::string data(10, '?');
  const IoStatus status =
      co_await backend->Read(offset, IoView(data.data(), std::ssize(data)));
  EXPECT_EQ(status.error(), 0);
}

// Writes from the middle of cluster 0 into cluster 2 while something is read at
// `read`; tells whether it waited for that.
Task<void> WriteBesideARead(Backend& backend, int64_t read, bool* waited) {
  InFlight running;
  // The table is in memory from here on.
  co_await ReadAt(&backend, kCluster, running.Hold());
  Spawn(ReadAt(&backend, read, running.Hold()));
  std::string data(2 * kCluster, 'n');
  const IoStatus status = co_await backend.Write(
      kCluster / 2, IoView(data.data(), std::ssize(data)));
  EXPECT_EQ(status.error(), 0);
  co_await running.WaitIdle();
  *waited = backend.node().statistics().serialising_waits > 0;
}

// Who reads what a write replaces would find others' data there. The cluster
// between the two that are replaced is written in place.
TEST(Claims, AWriteWaitsForWhoReadsTheClustersThatItFills) {
  NewImage image({.cluster_bits = 9, .size_bytes = 8 * kCluster});
  image.SetData(1, "data");
  for (const int64_t i : {0, 2, 3}) image.SetCompressed(i, "packed");
  const std::string bytes = image.Finish();
  for (const auto& [read, waits] : {std::pair(int64_t{0}, true),
                                    {2 * kCluster + 400, true},
                                    {3 * kCluster, false}}) {
    SCOPED_TRACE(read);
    SimWorld world(1);
    world.disk().options().at_once = 0;
    world.disk().Create("top", bytes);
    bool waited = false;
    const auto steps = [&](Backend& backend) {
      return WriteBesideARead(backend, read, &waited);
    };
    world.Run(Live(&world, /*backing=*/false, steps));
    EXPECT_EQ(waited, waits);
  }
}

// --- What is freed ----------------------------------------------------------

Task<void> ReserveAll(Backend& backend) {
  EXPECT_EQ((co_await backend.Reserve(0, backend.size())).error(), 0);
}

Task<void> DiscardAllAndDie(Backend& backend, SimDisk* disk) {
  EXPECT_EQ((co_await backend.Discard(0, backend.size())).error(), 0);
  EXPECT_EQ((co_await backend.Flush()).error(), 0);
  disk->Kill();
}

// Counts of 64 bits, of which a cluster has 64: those of the whole disk are
// three times what the refcount cache may hold changed.
TEST(Freed, CountsThatAreLoweredDoNotAllWaitInMemory) {
  constexpr int64_t kMayWait = (int64_t{4} << 20) / 8;
  NewImage image({.cluster_bits = 9,
                  .refcount_order = 6,
                  .size_bytes = 3 * kMayWait / 2 * kCluster});
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  world.Run(Live(&world, /*backing=*/false, ReserveAll));
  world.Run(Live(&world, /*backing=*/false, [&world](Backend& backend) {
    return DiscardAllAndDie(backend, &world.disk());
  }));
  world.disk().Restart();
  const absl::StatusOr<CheckReport> report = CheckInWorld(world, "top");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->corruptions(), 0);
  EXPECT_LE(report->leaks(), kMayWait);
}

// --- Cost --------------------------------------------------------------------

Task<void> WriteAndFlush(Backend& backend, SimDisk* disk,
                         std::vector<int64_t>* syncs) {
  std::string data(kCluster, 'n');
  for (const int64_t writes : {0, 1, 20, 300, 0}) {
    for (int64_t i = 0; i < writes; ++i) {
      const IoStatus written = co_await backend.Write(
          (writes + i) * kCluster, IoView(data.data(), kCluster));
      EXPECT_EQ(written.error(), 0);
    }
    const int64_t before = disk->syncs("top");
    EXPECT_EQ((co_await backend.Flush()).error(), 0);
    syncs->push_back(disk->syncs("top") - before);
  }
}

// The first flush has nothing to do: opening has flushed what a predecessor may
// have left. A new refcount block, which 256 clusters fill, costs a third one.
TEST(Cost, AllocationsBetweenTwoFlushesCostTwoSyncs) {
  NewImage image({.cluster_bits = 9, .size_bytes = 640 * kCluster});
  image.SetData(0, "data");
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  std::vector<int64_t> syncs;
  const auto steps = [&](Backend& backend) {
    return WriteAndFlush(backend, &world.disk(), &syncs);
  };
  world.Run(Live(&world, /*backing=*/false, steps));
  EXPECT_EQ(syncs, (std::vector<int64_t>{0, 2, 2, 3, 0}));
}

Task<void> DiscardAndFlush(Backend& backend, SimDisk* disk, int64_t* freed) {
  const int64_t before = disk->AllocatedBytes();
  EXPECT_EQ((co_await backend.Discard(0, backend.size())).error(), 0);
  EXPECT_EQ(disk->AllocatedBytes(), before);
  EXPECT_EQ((co_await backend.Flush()).error(), 0);
  *freed = before - disk->AllocatedBytes();
}

TEST(Cost, WhatWasDiscardedIsGivenBackByAFlush) {
  NewImage image({.cluster_bits = 12, .size_bytes = 8 * SimImage::kBlock});
  for (int64_t i = 0; i < 8; ++i) {
    image.SetData(i, std::string(SimImage::kBlock, 'o'));
  }
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  int64_t freed = 0;
  const auto steps = [&](Backend& backend) {
    return DiscardAndFlush(backend, &world.disk(), &freed);
  };
  world.Run(Live(&world, /*backing=*/false, steps));
  EXPECT_EQ(freed, 8 * SimImage::kBlock);
}

Task<void> ZeroTwoClusters(Backend& backend) {
  EXPECT_EQ((co_await backend.Zero(0, kCluster)).error(), 0);
  EXPECT_EQ((co_await backend.Zero(kCluster, kCluster, kMayUnmap)).error(), 0);
}

// Zeros keep the place of what they replace, unless they may free it.
TEST(Cost, ZerosKeepTheirPlace) {
  NewImage image({.cluster_bits = 9, .size_bytes = 8 * kCluster});
  for (const int64_t i : {0, 1}) {
    image.SetData(i, std::string(kCluster, 'o'));
  }
  SimWorld world(1);
  world.disk().Create("top", image.Finish());
  world.Run(Live(&world, /*backing=*/false, ZeroTwoClusters));
  const absl::StatusOr<CheckReport> report = CheckInWorld(world, "top");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(report->allocated_clusters, 1);
}

}  // namespace
}  // namespace bgfs::qcow2
