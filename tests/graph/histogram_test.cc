#include "graph/histogram.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace bgfs {
namespace {

// Of all sizes: as many of 10 bits as of 40.
std::vector<int64_t> RandomValues(size_t count, int bits) {
  std::mt19937_64 random(1);
  std::vector<int64_t> values;
  for (size_t i = 0; i < count; ++i) {
    const int shift = 64 - 1 - static_cast<int>(random() % bits);
    values.push_back(static_cast<int64_t>(random() >> shift));
  }
  return values;
}

Histogram Of(const std::vector<int64_t>& values) {
  Histogram histogram;
  for (int64_t value : values) histogram.Add(value);
  return histogram;
}

TEST(Histogram, EachBucketBeginsWhereTheLastOneEnds) {
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    const int64_t bound = Histogram::BoundOf(i);
    EXPECT_EQ(Histogram::BucketOf(bound), i);
    if (bound < Histogram::kLargest) {
      EXPECT_EQ(Histogram::BucketOf(bound + 1), i + 1);
    }
  }
  EXPECT_EQ(Histogram::BoundOf(Histogram::kBuckets - 1), Histogram::kLargest);
}

TEST(Histogram, WhatIsReadBackIsLessThanA32ndLarger) {
  for (int64_t value : RandomValues(100000, 40)) {
    value = std::max<int64_t>(1, value);
    const int64_t bound = Histogram::BoundOf(Histogram::BucketOf(value));
    EXPECT_GE(bound, value);
    EXPECT_LT(static_cast<double>(bound - value),
              static_cast<double>(value) / 32);
    if (value <= 64) EXPECT_EQ(bound, value);
  }
}

TEST(Histogram, PowersOfTwoAreBounds) {
  for (int64_t power = 1; power <= Histogram::kLargest; power *= 2) {
    EXPECT_EQ(Histogram::BoundOf(Histogram::BucketOf(power)), power);
  }
}

TEST(Histogram, QuantilesAreThoseOfTheSortedValues) {
  std::vector<int64_t> values = RandomValues(10001, 36);
  const Histogram histogram = Of(values);
  std::sort(values.begin(), values.end());
  for (double fraction : {0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(
        std::ceil(fraction * static_cast<double>(values.size())));
    const int64_t exact =
        std::max<int64_t>(1, values[rank == 0 ? 0 : rank - 1]);
    EXPECT_GE(histogram.Quantile(fraction), exact) << fraction;
    EXPECT_LE(static_cast<double>(histogram.Quantile(fraction)),
              static_cast<double>(exact) * (1 + 1.0 / 32))
        << fraction;
  }
  EXPECT_EQ(histogram.Quantile(1), values.back());
  EXPECT_EQ(histogram.max(), values.back());
  int64_t sum = 0;
  for (int64_t value : values) sum += value;
  EXPECT_EQ(histogram.sum(), sum);
  EXPECT_EQ(histogram.count(), 10001);
}

TEST(Histogram, QuantilesOfFew) {
  const Histogram histogram = Of({4, 1, 3, 2});
  EXPECT_EQ(histogram.Quantile(0), 1);
  EXPECT_EQ(histogram.Quantile(0.25), 1);
  EXPECT_EQ(histogram.Quantile(0.5), 2);
  EXPECT_EQ(histogram.Quantile(0.51), 3);
  EXPECT_EQ(histogram.Quantile(0.99), 4);
  EXPECT_EQ(histogram.Quantile(1), 4);
}

TEST(Histogram, CountsUpToABound) {
  const std::vector<int64_t> values = RandomValues(10000, 36);
  const Histogram histogram = Of(values);
  for (int64_t bound = 1; bound <= Histogram::kLargest; bound *= 2) {
    EXPECT_EQ(histogram.CountUpTo(bound),
              std::count_if(values.begin(), values.end(),
                            [bound](int64_t value) { return value <= bound; }));
  }
}

TEST(Histogram, TakesWhatIsOutOfItsRange) {
  Histogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  histogram.Add(0);
  histogram.Add(-5);  // a clock that went back
  EXPECT_EQ(histogram.counts()[0], 2);
  histogram.Add(Histogram::kLargest * 8);
  EXPECT_EQ(histogram.counts()[Histogram::kBuckets - 1], 1);
  EXPECT_EQ(histogram.max(), Histogram::kLargest * 8);
  EXPECT_EQ(histogram.Quantile(1), Histogram::kLargest * 8);
}

TEST(Histogram, MergesAndSubtracts) {
  const std::vector<int64_t> values = RandomValues(1000, 36);
  const std::vector<int64_t> first(values.begin(), values.begin() + 400);
  const std::vector<int64_t> second(values.begin() + 400, values.end());
  const Histogram all = Of(values);
  Histogram merged = Of(first);
  merged.Merge(Of(second));
  EXPECT_EQ(merged.counts(), all.counts());
  EXPECT_EQ(merged.count(), 1000);
  EXPECT_EQ(merged.sum(), all.sum());
  EXPECT_EQ(merged.max(), all.max());

  merged.Subtract(Of(first));
  const Histogram left = Of(second);
  EXPECT_EQ(merged.counts(), left.counts());
  EXPECT_EQ(merged.count(), 600);
  EXPECT_EQ(merged.sum(), left.sum());
  EXPECT_GE(merged.max(), left.max());
  EXPECT_LE(merged.max(), left.max() + left.max() / 32);
}

TEST(Histogram, NothingIsLeftOfNothingNew) {
  Histogram histogram = Of({5, 70, 1000});
  histogram.Subtract(Histogram(histogram));
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_EQ(histogram.Quantile(0.99), 0);
}

// What goes through a message: bounds and counts of the buckets in use.
TEST(Histogram, IsMadeAgainFromItsBuckets) {
  const Histogram original = Of(RandomValues(1000, 40));
  Histogram again;
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    again.AddBucket(Histogram::BoundOf(i), original.counts()[i]);
  }
  again.AddSum(original.sum(), original.max());
  EXPECT_EQ(again.counts(), original.counts());
  EXPECT_EQ(again.count(), original.count());
  EXPECT_EQ(again.Quantile(0.99), original.Quantile(0.99));
}

}  // namespace
}  // namespace bgfs
