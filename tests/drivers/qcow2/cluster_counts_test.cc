#include "drivers/qcow2/cluster_counts.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kFar = int64_t{1} << 54;

TEST(ClusterCounts, AreZeroUntilAddedTo) {
  MemoryBudget budget(1 << 20);
  ClusterCounts counts(&budget);
  EXPECT_EQ(counts.Get(7), 0u);
  EXPECT_EQ(counts.NextUsed(0), -1);
  counts.Add(7, 2);
  counts.Add(kFar, 1);
  counts.Add(7, 1);
  EXPECT_EQ(counts.Get(7), 3u);
  EXPECT_EQ(counts.Get(8), 0u);
  EXPECT_EQ(counts.Get(kFar), 1u);
  EXPECT_EQ(counts.NextUsed(0), 7);
  EXPECT_EQ(counts.NextUsed(8), kFar);
  EXPECT_EQ(counts.NextUsed(kFar + 1), -1);
  EXPECT_EQ(counts.end(), kFar + 1);
}

TEST(ClusterCounts, GrowBeyondAByte) {
  MemoryBudget budget(1 << 20);
  ClusterCounts counts(&budget);
  uint64_t sum = 0;
  for (const uint64_t more : {254, 1, 1, 1000, 0}) {
    counts.Add(5, more);
    sum += more;
    EXPECT_EQ(counts.Get(5), sum);
  }
  counts.Add(6, uint64_t{1} << 40);
  EXPECT_EQ(counts.Get(6), uint64_t{1} << 40);
}

TEST(ClusterCounts, KeepFlagsApart) {
  MemoryBudget budget(1 << 20);
  ClusterCounts counts(&budget);
  counts.SetFlag(2000, 1);
  EXPECT_TRUE(counts.HasFlag(2000, 1));
  EXPECT_FALSE(counts.HasFlag(2000, 0));
  EXPECT_FALSE(counts.HasFlag(2001, 1));
  EXPECT_EQ(counts.Get(2000), 0u);
  EXPECT_EQ(counts.NextUsed(0), 2000);
}

TEST(ClusterCounts, StopAtTheBudget) {
  MemoryBudget budget(10 << 10);
  ClusterCounts counts(&budget);
  for (int64_t i = 0; i < 100; ++i) counts.Add(i * 100000, 1);
  EXPECT_TRUE(budget.exhausted());
  EXPECT_EQ(counts.Get(0), 1u);
  EXPECT_EQ(counts.Get(9900000), 0u);
}

TEST(ClusterCounts, GiveBackWhatTheyTook) {
  MemoryBudget budget(10 << 10);
  for (int i = 0; i < 100; ++i) {
    ClusterCounts counts(&budget);
    counts.Add(i, 1000);
    counts.Clear();
    EXPECT_EQ(counts.Get(i), 0u);
  }
  EXPECT_FALSE(budget.exhausted());
}

}  // namespace
}  // namespace bgfs::qcow2
