#include "drivers/qcow2/entries.h"

#include <cstdint>
#include <random>

#include "gtest/gtest.h"

namespace bgfs::qcow2 {
namespace {

constexpr Geometry k64K(16);

TEST(L1Entry, PointsToATable) {
  L1Entry entry = DecodeL1Entry(kEntryCopied | 0x50000, k64K);
  EXPECT_EQ(entry.fault, nullptr);
  EXPECT_TRUE(entry.allocated());
  EXPECT_TRUE(entry.copied);
  EXPECT_EQ(entry.l2_table, HostOffset(0x50000));
  EXPECT_FALSE(DecodeL1Entry(0, k64K).allocated());
  EXPECT_FALSE(DecodeL1Entry(0x50000, k64K).copied);
}

TEST(L1Entry, ReservedBitsAndMisalignmentAreFaults) {
  for (int bit = 0; bit < 63; ++bit) {
    const bool offset_bit = bit >= 16 && bit <= 55;
    L1Entry entry = DecodeL1Entry(0x50000 | (uint64_t{1} << bit), k64K);
    EXPECT_EQ(entry.fault == nullptr, offset_bit) << "bit " << bit;
  }
}

TEST(L2Entry, StandardKinds) {
  EXPECT_EQ(DecodeL2Entry(0, k64K, true).kind, ClusterKind::kUnallocated);
  EXPECT_EQ(DecodeL2Entry(1, k64K, true).kind, ClusterKind::kZero);
  L2Entry entry = DecodeL2Entry(0x70001, k64K, true);
  EXPECT_EQ(entry.kind, ClusterKind::kZeroAllocated);
  EXPECT_EQ(entry.host, HostOffset(0x70000));
  entry = DecodeL2Entry(kEntryCopied | 0x70000, k64K, true);
  EXPECT_EQ(entry.kind, ClusterKind::kStandard);
  EXPECT_EQ(entry.host, HostOffset(0x70000));
  EXPECT_TRUE(entry.copied);
}

TEST(L2Entry, FaultsAreNamed) {
  for (int bit = 1; bit < 62; ++bit) {
    const bool offset_bit = bit >= 16 && bit <= 55;
    L2Entry entry = DecodeL2Entry(0x70000 | (uint64_t{1} << bit), k64K, true);
    EXPECT_EQ(entry.kind == ClusterKind::kFault, !offset_bit) << "bit " << bit;
    EXPECT_EQ(entry.fault != nullptr, !offset_bit) << "bit " << bit;
  }
  // Version 2 has no zero clusters.
  EXPECT_EQ(DecodeL2Entry(1, k64K, false).kind, ClusterKind::kFault);
  // Host offset 0 exists only in external data files.
  EXPECT_EQ(DecodeL2Entry(kEntryCopied, k64K, true).kind, ClusterKind::kFault);
}

TEST(L2Entry, CompressedIsCutByClusterBits) {
  for (int bits = kMinClusterBits; bits <= kMaxClusterBits; ++bits) {
    const int x = 62 - (bits - 8);
    const int64_t max_sectors = (int64_t{1} << (bits - 8)) - 1;
    const int64_t offset = 0x12345678 + 511;
    const uint64_t raw = kEntryCompressed |
                         (static_cast<uint64_t>(max_sectors) << x) |
                         static_cast<uint64_t>(offset);
    L2Entry entry = DecodeL2Entry(raw, Geometry(bits), true);
    EXPECT_EQ(entry.kind, ClusterKind::kCompressed);
    EXPECT_EQ(entry.host, HostOffset(offset));
    EXPECT_EQ(entry.compressed_bytes, (max_sectors + 1) * 512 - offset % 512);
    EXPECT_LE(entry.compressed_bytes, 2 << bits);
  }
}

TEST(L2Entry, CompressedPast56BitsIsAFault) {
  // Small clusters leave room for offset bits that must be 0.
  EXPECT_EQ(
      DecodeL2Entry(kEntryCompressed | (uint64_t{1} << 56), Geometry(9), true)
          .kind,
      ClusterKind::kFault);
  // Large ones do not: the same bit counts sectors.
  EXPECT_EQ(
      DecodeL2Entry(kEntryCompressed | (uint64_t{1} << 56), k64K, true).kind,
      ClusterKind::kCompressed);
}

TEST(L2Entry, AnyEntryDecodesToSomethingBounded) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 200000; ++i) {
    const Geometry geometry(9 + static_cast<int>(random() % 13));
    const uint64_t raw = random();
    L2Entry entry = DecodeL2Entry(raw, geometry, (i & 1) != 0);
    ASSERT_GE(entry.host.value(), 0);
    ASSERT_LT(entry.host.value(), int64_t{1} << 56);
    ASSERT_EQ(entry.kind == ClusterKind::kFault, entry.fault != nullptr);
    if (entry.kind == ClusterKind::kCompressed) {
      ASSERT_GE(entry.compressed_bytes, 1);
      ASSERT_LE(entry.compressed_bytes, 2 * geometry.cluster_size());
    } else {
      ASSERT_TRUE(geometry.IsClusterStart(entry.host));
    }
  }
}

}  // namespace
}  // namespace bgfs::qcow2
