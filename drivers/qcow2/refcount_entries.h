// The counts in a refcount block ("Refcount block entry"): 1 << order bits
// each, order 0..6. Those of less than a byte begin at the least significant
// bit of their byte; the others are big endian.

#ifndef BGFS_DRIVERS_QCOW2_REFCOUNT_ENTRIES_H_
#define BGFS_DRIVERS_QCOW2_REFCOUNT_ENTRIES_H_

#include <cstdint>
#include <limits>

namespace bgfs::qcow2 {

// "Refcount table entry".
inline constexpr uint64_t kRefcountTableReserved = 0x1ff;

constexpr uint64_t MaxRefcount(int order) {
  return order == 6 ? std::numeric_limits<uint64_t>::max()
                    : (uint64_t{1} << (1 << order)) - 1;
}

// How many counts a block of `cluster_size` bytes has.
constexpr int64_t RefcountsPerBlock(int64_t cluster_size, int order) {
  return cluster_size * 8 >> order;
}

inline uint64_t LoadRefcount(const uint8_t* block, int order, int64_t index) {
  if (order < 3) {
    const int64_t bit = index << order;
    return (block[bit / 8] >> (bit % 8)) & MaxRefcount(order);
  }
  const int bytes = 1 << (order - 3);
  uint64_t count = 0;
  for (int i = 0; i < bytes; ++i) count = count << 8 | block[index * bytes + i];
  return count;
}

// `count` is at most MaxRefcount(order).
inline void StoreRefcount(uint8_t* block, int order, int64_t index,
                          uint64_t count) {
  if (order < 3) {
    const int64_t bit = index << order;
    const auto mask = static_cast<uint8_t>(MaxRefcount(order) << (bit % 8));
    block[bit / 8] =
        static_cast<uint8_t>((block[bit / 8] & ~mask) | count << (bit % 8));
    return;
  }
  const int bytes = 1 << (order - 3);
  for (int i = bytes - 1; i >= 0; --i) {
    block[index * bytes + i] = static_cast<uint8_t>(count);
    count >>= 8;
  }
}

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_REFCOUNT_ENTRIES_H_
