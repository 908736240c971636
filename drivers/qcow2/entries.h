// What one entry of an L1 or L2 table says ("L1 table entry", "L2 table
// entry", "Standard Cluster Descriptor", "Compressed Clusters Descriptor").
// The bits are drawn in format.h.
//
// An entry comes from the image and is not trusted: what the specification
// forbids becomes `fault`, one phrase for the log, and the read that met it
// fails with EIO. Whether an offset lies within the file is for the caller to
// check, who knows how long the file is.

#ifndef BGFS_DRIVERS_QCOW2_ENTRIES_H_
#define BGFS_DRIVERS_QCOW2_ENTRIES_H_

#include <cstdint>

#include "drivers/qcow2/format.h"
#include "drivers/qcow2/types.h"

namespace bgfs::qcow2 {

struct L1Entry {
  // The L2 table; 0 if all it would describe is unallocated.
  HostOffset l2_table;
  bool copied = false;
  // Why the entry cannot be used; null if it can.
  const char* fault = nullptr;

  bool allocated() const { return l2_table.value() != 0; }
};

enum class ClusterKind : uint8_t {
  kUnallocated,    // the backing layer's data, or zeros
  kZero,           // zeros, no host cluster
  kZeroAllocated,  // zeros, a host cluster is reserved at `host`
  kStandard,       // the host cluster at `host`
  kCompressed,     // `compressed_bytes` bytes at `host` hold it
  kFault,          // `fault` says why the entry cannot be used
};

struct L2Entry {
  ClusterKind kind = ClusterKind::kUnallocated;
  bool copied = false;
  // Aligned to a cluster, except for kCompressed.
  HostOffset host;
  // An upper bound: the data may end anywhere in the last of its sectors.
  // 1..2 * cluster_size.
  int64_t compressed_bytes = 0;
  const char* fault = nullptr;
};

inline L1Entry DecodeL1Entry(uint64_t raw, Geometry geometry) {
  L1Entry entry;
  entry.l2_table = HostOffset(static_cast<int64_t>(raw & kEntryOffsetMask));
  entry.copied = (raw & kEntryCopied) != 0;
  if ((raw & kL1Reserved) != 0) {
    entry.fault = "its L1 entry has reserved bits set";
  } else if (!geometry.IsClusterStart(entry.l2_table)) {
    entry.fault = "its L2 table is not aligned to a cluster";
  }
  return entry;
}

inline L2Entry FaultyL2Entry(const char* fault) {
  L2Entry entry;
  entry.kind = ClusterKind::kFault;
  entry.fault = fault;
  return entry;
}

// `raw` has bit 62 set.
inline L2Entry DecodeCompressedEntry(uint64_t raw, Geometry geometry) {
  const int offset_bits = 62 - (geometry.cluster_bits() - 8);
  const uint64_t descriptor = raw & (kEntryCompressed - 1);
  const uint64_t offset = descriptor & ((uint64_t{1} << offset_bits) - 1);
  if (offset >= kHostOffsetLimit) {
    return FaultyL2Entry("its compressed data lies past 2^56 bytes");
  }
  const auto sectors = static_cast<int64_t>(descriptor >> offset_bits) + 1;
  L2Entry entry;
  entry.kind = ClusterKind::kCompressed;
  entry.host = HostOffset(static_cast<int64_t>(offset));
  entry.compressed_bytes = sectors * kCompressedSectorBytes -
                           entry.host.value() % kCompressedSectorBytes;
  return entry;
}

// `zero_flag`: bit 0 has a meaning (version 3 without extended L2 entries).
inline L2Entry DecodeL2Entry(uint64_t raw, Geometry geometry, bool zero_flag) {
  if ((raw & kEntryCompressed) != 0) {
    return DecodeCompressedEntry(raw, geometry);
  }
  if ((raw & kL2StandardReserved) != 0) {
    return FaultyL2Entry("its L2 entry has reserved bits set");
  }
  const bool zero = (raw & kEntryZero) != 0;
  if (zero && !zero_flag) {
    return FaultyL2Entry("it is a zero cluster, which version 2 has not");
  }
  L2Entry entry;
  entry.copied = (raw & kEntryCopied) != 0;
  entry.host = HostOffset(static_cast<int64_t>(raw & kEntryOffsetMask));
  const bool has_host = entry.host.value() != 0;
  if (!geometry.IsClusterStart(entry.host)) {
    return FaultyL2Entry("its data is not aligned to a cluster");
  }
  if (zero) {
    entry.kind = has_host ? ClusterKind::kZeroAllocated : ClusterKind::kZero;
  } else if (has_host) {
    entry.kind = ClusterKind::kStandard;
  } else if (entry.copied) {
    return FaultyL2Entry("its L2 entry is marked as used, without an offset");
  }
  return entry;
}

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_ENTRIES_H_
