#include "drivers/qcow2/repair.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/chain_gen.h"
#include "tests/drivers/qcow2/check_file.h"
#include "tests/drivers/qcow2/checkable_image.h"
#include "tests/drivers/qcow2/damages.h"
#include "tests/drivers/qcow2/sim_check.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kCluster = CheckableImage::kCluster;

std::string BytesOf(const CheckableImage& image) {
  const std::vector<uint8_t> bytes = image.Bytes();
  return std::string(bytes.begin(), bytes.end());
}

// What the guest reads, as QEMU reads it; zeros where it cannot (the compressed
// clusters are garbage).
std::string GuestBytes(const TempFolder& folder, const std::string& name) {
  const auto converted = RunCommand(absl::StrCat(
      "cd ", folder.path(), " && qemu-img convert --salvage -f qcow2 -O raw ",
      name, " ", name, ".raw"));
  return converted.ok() ? ReadHostFile(folder / (name + ".raw")) : "unreadable";
}

class Repaired : public testing::TestWithParam<Damage> {};
INSTANTIATE_TEST_SUITE_P(Repair, Repaired, testing::ValuesIn(Damages()),
                         [](const auto& info) { return info.param.name; });

TEST_P(Repaired, AsFarAsItCanBe) {
  const TempFolder folder;
  CheckableImage image;
  GetParam().damage(image);
  image.Write(folder / "ours");
  image.Write(folder / "qemus");
  const auto before = CheckFile(folder / "ours");
  const auto report = CheckFile(folder / "ours", Repair::kAll);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Summary(*report), GetParam().remains);
  EXPECT_EQ(report->leaks_fixed, before->leaks() - report->leaks());
  const auto again = CheckFile(folder / "ours");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Summary(*again), GetParam().remains);
  if (!GetParam().qemu_agrees) return;
  EXPECT_EQ(QemuVerdict(folder / "ours"), QemuVerdict(folder / "qemus", "all"));
  EXPECT_EQ(GuestBytes(folder, "ours"), GuestBytes(folder, "qemus"));
}

// Nothing may be worse than it was before a repair that was cut short.
void ExpectNoWorse(const CheckReport& now, const CheckReport& before) {
  for (const FindingKind kind :
       {FindingKind::kRefcountTooLow, FindingKind::kRefcountTable,
        FindingKind::kCopiedSet, FindingKind::kReservedBits,
        FindingKind::kMisaligned, FindingKind::kOutOfFile,
        FindingKind::kOverlap, FindingKind::kBadEntry}) {
    EXPECT_LE(now.count(kind), before.count(kind)) << NameOf(kind);
  }
  if (now.count(FindingKind::kMarkedDirty) < 1) EXPECT_TRUE(now.clean());
}

// Whenever the power goes, the next repair brings the image right.
TEST_P(Repaired, AlsoWhenThePowerGoesOnTheWay) {
  CheckableImage image;
  GetParam().damage(image);
  if (image.header.version >= 3) image.header.incompatible |= 1;
  const std::string bytes = BytesOf(image);
  SimWorld whole(1);
  whole.disk().Create("a", bytes);
  const CheckReport before = *CheckInWorld(whole, "a");
  // Each moment several times: the power takes other things each time.
  constexpr int64_t kTries = 16;
  bool cut = true;
  for (int64_t i = 0; cut; ++i) {
    SCOPED_TRACE(i);
    const int64_t ops = i / kTries;
    SimWorld world(static_cast<uint64_t>(i) + 1);
    world.disk().Create("a", bytes);
    world.disk().AfterOps(ops, [&world] { world.disk().PowerCut(); });
    (void)CheckInWorld(world, "a", Repair::kAll);
    cut = world.disk().dead();
    if (cut) world.disk().Restart();
    world.disk().AfterOps(1 << 20, [] {});
    if (image.header.version >= 3) {
      ExpectNoWorse(*CheckInWorld(world, "a"), before);
    }
    auto report = CheckInWorld(world, "a", Repair::kAll);
    ASSERT_TRUE(report.ok()) << report.status();
    report->Forget(FindingKind::kMarkedDirty);
    report->Forget(FindingKind::kMarkedCorrupt);
    EXPECT_EQ(Summary(*report), GetParam().remains);
    const std::string after = world.disk().Content("a");
    // No data was written over.
    EXPECT_EQ(after.substr(5 * kCluster, 3 * kCluster),
              bytes.substr(5 * kCluster, 3 * kCluster));
  }
}

// An interrupted copy: the refcounts and more are lost. What is new must not
// lie where the entries lead.
TEST(Repair, OfAFileThatWasCutShortConverges) {
  CheckableImage image;
  for (uint64_t i = 4; i < 40; ++i) {
    image.SetL2(i, kEntryCopied | (i + 4) * kCluster);
  }
  std::string bytes = BytesOf(image);
  bytes.resize(3 * kCluster);
  SimWorld world(1);
  world.disk().Create("a", bytes);
  const auto first = CheckInWorld(world, "a", Repair::kAll);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->clean()) << Summary(*first);
  const auto second = CheckInWorld(world, "a", Repair::kAll);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->corruptions_fixed + second->leaks_fixed, 0);
}

// With what comes back an entry is no longer the only one.
TEST(Repair, OfAFileThatWasCutShortClearsFlags) {
  CheckableImage image;
  image.header.refcount_table_clusters = 0;
  image.SetL2(0, kEntryCopied | 7 * kCluster);
  image.SetL2(3, 0);
  // Two clusters more than there are.
  image.SetCompressed(2, 7 * kCluster + 4000, 16);
  SimWorld world(1);
  world.disk().Create("a", BytesOf(image));
  const auto report = CheckInWorld(world, "a", Repair::kAll);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->clean()) << Summary(*report);
}

TEST(Repair, OfLeaksLowersCountsOnly) {
  const TempFolder folder;
  CheckableImage image;
  image.SetRefcount(5, 3);
  image.SetRefcount(6, 0);
  image.SetL2(0, 5 * kCluster);
  image.Write(folder / "a");
  const auto report = CheckFile(folder / "a", Repair::kLeaks);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Summary(*report),
            "refcount too low 1, COPIED set 1, COPIED clear 1");
  EXPECT_EQ(report->leaks_fixed, 1);
}

TEST(Repair, OfLeaksAloneSetsTheFlagsThatFollow) {
  const TempFolder folder;
  CheckableImage image;
  image.SetRefcount(5, 3);
  image.SetL2(0, 5 * kCluster);
  image.Write(folder / "a");
  const auto report = CheckFile(folder / "a", Repair::kLeaks);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Summary(*report), "");
  EXPECT_EQ(QemuVerdict(folder / "a"), Verdict::kClean);
}

TEST(Repair, OfLeaksRefusesBrokenStructures) {
  const TempFolder folder;
  CheckableImage image;
  image.SetWord(CheckableImage::kTable, 4 * kCluster | 1);
  image.Write(folder / "a");
  const std::string before = ReadHostFile(folder / "a");
  const auto report = CheckFile(folder / "a", Repair::kLeaks);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("repair all"));
  EXPECT_EQ(ReadHostFile(folder / "a"), before);
}

// The table would say something else once the header does.
TEST(Repair, OfRefcountsRefusesATableOverTheHeader) {
  const TempFolder folder;
  CheckableImage image;
  image.header.l1_offset = 0;
  image.header.refcount_table_clusters = 0;
  image.Write(folder / "a");
  const std::string before = ReadHostFile(folder / "a");
  const auto report = CheckFile(folder / "a", Repair::kAll);
  EXPECT_THAT(std::string(report.status().message()),
              HasSubstr("over the header"));
  EXPECT_EQ(ReadHostFile(folder / "a"), before);
}

TEST(Repair, OfAGoodImageWritesNothing) {
  const TempFolder folder;
  CheckableImage().Write(folder / "a");
  const std::string before = ReadHostFile(folder / "a");
  ASSERT_TRUE(CheckFile(folder / "a", Repair::kAll).ok());
  EXPECT_EQ(ReadHostFile(folder / "a"), before);
}

// The marks go when everything is right, and not before.
TEST(Repair, ClearsTheMarksLast) {
  const TempFolder folder;
  CheckableImage image;
  image.header.incompatible = kIncompatibleDirty | kIncompatibleCorrupt;
  image.SetRefcount(5, 0);
  image.Write(folder / "a");
  const auto report = CheckFile(folder / "a", Repair::kAll);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(Summary(*report), IsEmpty());
  EXPECT_THAT(Summary(*CheckFile(folder / "a")), IsEmpty());
  image.SetL2(0, kEntryCopied | (5 * kCluster + 512));
  image.Write(folder / "b");
  const auto hopeless = CheckFile(folder / "b", Repair::kAll);
  ASSERT_TRUE(hopeless.ok()) << hopeless.status();
  EXPECT_EQ(hopeless->count(FindingKind::kMarkedDirty), 1);
}

TEST(Repair, ClearsUnknownAutoclearBits) {
  const TempFolder folder;
  CheckableImage image;
  image.header.autoclear = uint64_t{1} << 40;
  image.SetRefcount(5, 2);
  image.Write(folder / "a");
  ASSERT_TRUE(CheckFile(folder / "a", Repair::kAll).ok());
  EXPECT_EQ(ReadHostFile(folder / "a").substr(88, 8), std::string(8, '\0'));
}

}  // namespace
}  // namespace bgfs::qcow2
