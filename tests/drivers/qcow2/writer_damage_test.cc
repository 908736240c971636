// The writing half on images whose metadata lies: it refuses to write over
// other metadata, marks the image as corrupt, and leaves everything else alone.
// And on one whose last writer died.

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/checkable_image.h"
#include "tests/drivers/qcow2/sim_check.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kCluster = CheckableImage::kCluster;

std::string BytesOf(const CheckableImage& image) {
  const std::vector<uint8_t> bytes = image.Bytes();
  return std::string(bytes.begin(), bytes.end());
}

Task<std::unique_ptr<Backend>> Open(Graph* graph, const char* spec) {
  const OpenContext context;
  const proto::Node node_spec = ParseNode(spec);
  auto node = co_await OpenNode(*graph, node_spec, context);
  if (!node.ok()) co_return nullptr;
  auto backend = Backend::Create("test", *node, {kReadWrite, kAllPermissions});
  EXPECT_TRUE(backend.ok()) << backend.status();
  co_return *std::move(backend);
}

constexpr char kImage[] =
    "read_only: false discard: UNMAP qcow2 { file { filename: \"a\" } }";

// Writes `bytes` at `offset`, and flushes; gives the first error.
Task<int> Write(Loop* loop, const char* spec, int64_t offset, std::string bytes,
                bool flush) {
  Graph graph(loop);
  auto backend = co_await Open(&graph, spec);
  if (backend == nullptr) co_return -1;
  IoStatus status = co_await backend->Write(
      offset, IoView(bytes.data(), static_cast<int64_t>(bytes.size())));
  if (status.ok() && flush) status = co_await backend->Flush();
  backend.reset();
  (co_await graph.Close()).IgnoreError();
  co_return status.error();
}

// A write of a cluster, `shift` bytes into guest cluster `guest`, meets damage:
// the file stays as it is, but for the corrupt bit, `untouched` and all in
// front of it at least.
void ExpectRefused(const CheckableImage& image, int64_t guest,
                   int64_t untouched, int64_t shift = 0) {
  SimWorld world(1);
  world.disk().Create("a", BytesOf(image));
  EXPECT_EQ(world.Run(Write(&world.loop(), kImage, guest * kCluster + shift,
                            std::string(kCluster, 'x'), true)),
            EIO);
  std::string expected = BytesOf(image);
  expected[kIncompatibleAt + 7] |= static_cast<char>(kIncompatibleCorrupt);
  const auto bytes = static_cast<size_t>((untouched + 1) * kCluster);
  EXPECT_TRUE(world.disk().Content("a").substr(0, bytes) ==
              expected.substr(0, bytes));
}

TEST(WriterDamage, AFreeClusterThatHoldsATableIsNotTaken) {
  CheckableImage image;
  image.SetRefcount(2, 0);
  ExpectRefused(image, 100, 7);
}

// What no refcount block counts is free, so a block would be made there.
TEST(WriterDamage, ARefcountBlockDoesNotGoOverATable) {
  CheckableImage image;
  image.SetWord(CheckableImage::kTable, 0);
  ExpectRefused(image, 100, 7);
}

// A new L2 table is written as soon as there is a place for it.
TEST(WriterDamage, AFreeClusterThatHoldsATableIsNotTakenForAnother) {
  CheckableImage image;
  image.SetL1(0, 2 * kCluster);
  image.SetRefcount(4, 0);
  ExpectRefused(image, 1, 5);
}

// The L1 table, the L2 table itself, the refcount table and block, both
// clusters of the snapshot table, and the L1 table of its snapshot.
TEST(WriterDamage, DataDoesNotGoOverATable) {
  for (const uint64_t cluster : {1, 2, 3, 4, 8, 9, 10}) {
    SCOPED_TRACE(cluster);
    CheckableImage image;
    image.header.snapshots = 1;
    image.header.snapshots_offset = 8 * kCluster;
    image.Resize(11 * kCluster);
    image.SetWord(8 * kCluster, 10 * kCluster);  // its L1 table
    image.Put(8 * kCluster + 8, {0, 0, 0, 1});   // of one entry
    image.Put(8 * kCluster + 36, {0, 0, 4, 0});  // extra data
    image.Put(8 * kCluster + 12, {0x0c, 0x00});  // a long id
    for (const uint64_t table : {8, 9, 10}) image.SetRefcount(table, 1);
    image.SetL2(0, kEntryCopied | cluster * kCluster);
    ExpectRefused(image, 0, 10);
  }
}

// What cannot be read of it has a beginning all the same.
TEST(WriterDamage, DataDoesNotGoOverADamagedSnapshotTable) {
  CheckableImage image;
  image.header.snapshots = 1;
  image.header.snapshots_offset = 8 * kCluster;
  image.Resize(9 * kCluster);
  image.Put(8 * kCluster + 36, {0x7f, 0, 0, 0});  // extra data
  image.SetRefcount(8, 1);
  image.SetL2(0, kEntryCopied | 8 * kCluster);
  ExpectRefused(image, 0, 8);
}

TEST(WriterDamage, ReservedSpaceOverATableIsNotUsed) {
  CheckableImage image;
  image.SetL2(1, kEntryCopied | kEntryZero | 1 * kCluster);
  ExpectRefused(image, 1, 7);
}

// The second of two clusters is the snapshot table.
TEST(WriterDamage, ReservedSpaceThatEndsOverATableIsNotUsed) {
  CheckableImage image;
  image.Resize(9 * kCluster);
  image.SetRefcount(8, 1);
  image.header.snapshots = 1;
  image.header.snapshots_offset = 8 * kCluster;
  image.SetL2(10, kEntryCopied | kEntryZero | 7 * kCluster);
  image.SetL2(11, kEntryCopied | kEntryZero | 8 * kCluster);
  ExpectRefused(image, 10, 8, /*shift=*/kCluster / 2);
}

// The L2 table is the refcount block.
TEST(WriterDamage, ATableDoesNotGoOverAnother) {
  CheckableImage image;
  image.SetL1(0, kEntryCopied | 4 * kCluster);
  ExpectRefused(image, 100, 7);
}

// What a failed flush has lost can look like damage; the disk may be sound.
TEST(WriterDamage, AnImageIsNotMarkedAfterAFailedFlush) {
  CheckableImage image;
  image.SetRefcount(2, 0);
  SimWorld world(1);
  world.disk().options().forgets_failed = 0;
  world.disk().Create("a", BytesOf(image));
  const auto write = [](SimWorld* world) -> Task<void> {
    Graph graph(&world->loop());
    auto backend = co_await Open(&graph, kImage);
    EXPECT_NE(backend, nullptr);
    if (backend == nullptr) co_return;
    world->disk().Inject({.kind = FileOp::Kind::kDataSync});
    std::string bytes(kCluster, 'x');
    const IoView data(bytes.data(), kCluster);
    EXPECT_EQ((co_await backend->Write(0, data)).error(), 0);
    EXPECT_EQ((co_await backend->Flush()).error(), EIO);
    EXPECT_EQ((co_await backend->Write(100 * kCluster, data)).error(), EIO);
    backend.reset();
    (co_await graph.Close()).IgnoreError();
  };
  world.Run(write(&world));
  EXPECT_EQ(world.disk().Content("a")[kIncompatibleAt + 7], 0);
}

// Which would only make it worse.
TEST(WriterDamage, WhatCannotBeWrittenRightIsNotOpenedForWriting) {
  std::vector<CheckableImage> images(5);
  images[0].header.incompatible = kIncompatibleCorrupt;
  images[1].header.autoclear = kAutoclearBitmaps;
  images[1].header.extensions = {{kExtensionBitmaps, std::string(24, '\0')}};
  images[2].header.refcount_table_clusters = 0;
  images[3].header.refcount_table_offset += 512;
  images[4].header.refcount_table_offset = 8 * kCluster;
  for (const CheckableImage& image : images) {
    SimWorld world(1);
    world.disk().Create("a", BytesOf(image));
    EXPECT_EQ(world.Run(Write(&world.loop(), kImage, 0,
                              std::string(kCluster, 'x'), true)),
              -1);
    EXPECT_TRUE(world.disk().Content("a") == BytesOf(image));
  }
}

// Its counts may be wrong: that of cluster 5 is 0, that of cluster 6 is 3.
TEST(WriterDamage, ADirtyImageIsMendedBeforeItIsWritten) {
  CheckableImage image;
  image.header.incompatible = kIncompatibleDirty;
  image.SetRefcount(5, 0);
  image.SetRefcount(6, 3);
  image.Put(5 * kCluster, std::vector<uint8_t>(kCluster, 'o'));
  SimWorld world(1);
  world.disk().Create("a", BytesOf(image));
  EXPECT_EQ(world.Run(Write(&world.loop(), kImage, 100 * kCluster,
                            std::string(kCluster, 'x'), true)),
            0);
  EXPECT_EQ(world.disk().Content("a").substr(5 * kCluster, kCluster),
            std::string(kCluster, 'o'));
  const absl::StatusOr<CheckReport> report = CheckInWorld(world, "a");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(report->count(FindingKind::kMarkedDirty), 0);
}

// Cluster 5 was guest cluster 0's; a writer freed it, wrote that to the file
// and died. Before somebody else's data goes there, the disk must know.
TEST(WriterDamage, WhatADeadWriterLeftIsMadeDurableFirst) {
  CheckableImage image;
  image.Put(5 * kCluster, std::vector<uint8_t>(kCluster, 'o'));
  constexpr char kFile[] =
      "read_only: false cache { no_flush: true } file { filename: \"a\" }";
  for (int64_t i = 0; i < 200; ++i) {
    SimWorld world(static_cast<uint64_t>(i) + 1);
    world.disk().Create("a", BytesOf(image));
    // Its L2 entry goes, and then its count.
    (void)world.Run(
        Write(&world.loop(), kFile, 2 * kCluster, std::string(8, '\0'), false));
    (void)world.Run(Write(&world.loop(), kFile, 4 * kCluster + int64_t{5} * 2,
                          std::string(2, '\0'), false));
    world.disk().Kill();
    world.disk().Restart();
    world.disk().AfterOps(i / 8, [&world] { world.disk().PowerCut(); });
    (void)world.Run(Write(&world.loop(), kImage, 100 * kCluster,
                          std::string(kCluster, 'x'), false));
    const bool cut = world.disk().dead();
    if (!cut) break;
    world.disk().Restart();
    const std::string content = world.disk().Content("a");
    if (content.substr(2 * kCluster, 8) == std::string(8, '\0')) continue;
    EXPECT_EQ(content.substr(5 * kCluster, kCluster),
              std::string(kCluster, 'o'))
        << "cut at operation " << i / 8;
  }
}

// Nor is its count lowered by a repair before that.
TEST(WriterDamage, WhatADeadWriterLeftIsMadeDurableBeforeARepair) {
  constexpr char kFile[] =
      "read_only: false cache { no_flush: true } file { filename: \"a\" }";
  bool cut = true;
  for (int64_t i = 0; cut; ++i) {
    SimWorld world(static_cast<uint64_t>(i) + 1);
    world.disk().Create("a", BytesOf(CheckableImage()));
    (void)world.Run(
        Write(&world.loop(), kFile, 2 * kCluster, std::string(8, '\0'), false));
    world.disk().Kill();
    world.disk().Restart();
    world.disk().AfterOps(i / 8, [&world] { world.disk().PowerCut(); });
    (void)CheckInWorld(world, "a", Repair::kLeaks);
    cut = world.disk().dead();
    if (!cut) world.disk().PowerCut();
    world.disk().Restart();
    world.disk().AfterOps(1 << 20, [] {});
    const absl::StatusOr<CheckReport> report = CheckInWorld(world, "a");
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->corruptions(), 0) << "cut at operation " << i / 8;
  }
}

}  // namespace
}  // namespace bgfs::qcow2
