// Histogram: how often values of which size came, HDR style: each power of two
// is cut into as many buckets, so that whatever a value is, what is read back
// is less than 1/32 larger, in a fixed amount of memory.
//
//   values   1 … 64   65 … 128   129 … 256   …   2^39+1 … 2^40
//   width         1          2           4                2^34
//
// A bucket holds the values above the bound of the one before it up to its own,
// that included. Every power of two is a bound, and all values up to 64 are.

#ifndef BGFS_GRAPH_HISTOGRAM_H_
#define BGFS_GRAPH_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace bgfs {

// Takes a few nanoseconds for a value. Not for several threads at once.
class Histogram {
 public:
  // Larger ones are counted as this, but for max() and sum(); those below 1 as
  // 1. In nanoseconds it is 18 minutes.
  static constexpr int64_t kLargest = int64_t{1} << 40;
  static constexpr size_t kBuckets = 1152;

  static constexpr size_t BucketOf(int64_t value) {
    const auto below =
        static_cast<uint64_t>(std::clamp<int64_t>(value, 1, kLargest) - 1);
    const int shift =
        std::max(0, static_cast<int>(std::bit_width(below)) - kLinearBits);
    return (static_cast<size_t>(shift) << kSubBits) + (below >> shift);
  }
  static constexpr int64_t BoundOf(size_t bucket) {
    const size_t shift = bucket < 2 * kSub ? 0 : bucket / kSub - 1;
    return static_cast<int64_t>((bucket - shift * kSub + 1) << shift);
  }

  void Add(int64_t value) {
    ++counts_[BucketOf(value)];
    ++count_;
    sum_ += value;
    max_ = std::max(max_, value);
  }

  int64_t count() const { return count_; }
  int64_t sum() const { return sum_; }
  int64_t max() const { return max_; }
  const std::array<int64_t, kBuckets>& counts() const { return counts_; }

  // The value that `fraction` (0 … 1) of all do not exceed: at least that, less
  // than 1/32 more, never more than max(); 0 when there is none.
  int64_t Quantile(double fraction) const {
    const double wanted = std::ceil(fraction * static_cast<double>(count_));
    int64_t seen = 0;
    // What is in the last bucket may be larger than that says.
    for (size_t i = 0; i + 1 < kBuckets; ++i) {
      seen += counts_[i];
      if (seen > 0 && static_cast<double>(seen) >= wanted) {
        return std::min(BoundOf(i), max_);
      }
    }
    return max_;
  }
  // How many do not exceed `bound`; exact where that is the bound of a bucket,
  // else those of the bucket that it lies in are left out.
  int64_t CountUpTo(int64_t bound) const {
    int64_t seen = 0;
    for (size_t i = 0; i < kBuckets && BoundOf(i) <= bound; ++i) {
      seen += counts_[i];
    }
    return seen;
  }

  // All the values of another, which were sent as its buckets, sum and maximum.
  void AddBucket(int64_t bound, int64_t count) {
    counts_[BucketOf(bound)] += count;
    count_ += count;
  }
  void AddSum(int64_t sum, int64_t max) {
    sum_ += sum;
    max_ = std::max(max_, max);
  }
  void Merge(const Histogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    AddSum(other.sum_, other.max_);
  }
  // Leaves what came since `earlier`, a state that this was in. The maximum is
  // then known as the other values are.
  void Subtract(const Histogram& earlier) {
    size_t last = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      counts_[i] -= earlier.counts_[i];
      if (counts_[i] > 0) last = i;
    }
    count_ -= earlier.count_;
    sum_ -= earlier.sum_;
    if (max_ == earlier.max_ && last + 1 < kBuckets) {
      max_ = count_ > 0 ? std::min(BoundOf(last), max_) : 0;
    }
  }

 private:
  static constexpr int kSubBits = 5;
  static constexpr int kLinearBits = kSubBits + 1;
  static constexpr size_t kSub = size_t{1} << kSubBits;

  std::array<int64_t, kBuckets> counts_{};
  int64_t count_ = 0;
  int64_t sum_ = 0;
  int64_t max_ = 0;
};

static_assert(Histogram::BucketOf(Histogram::kLargest) + 1 ==
              Histogram::kBuckets);

}  // namespace bgfs

#endif  // BGFS_GRAPH_HISTOGRAM_H_
