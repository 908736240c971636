// Turning the bytes of a compressed cluster back into a cluster.
//
// The format does not say how long the compressed data is, only in which
// 512-byte sector it ends; "decompression stops when it has produced a cluster
// of data" ("Compressed Clusters Descriptor"). So the input may go on with
// anything: another cluster's data, or what was there before.

#ifndef BGFS_DRIVERS_QCOW2_COMPRESSION_H_
#define BGFS_DRIVERS_QCOW2_COMPRESSION_H_

#include <cstdint>

#include "absl/types/span.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {

// Fills `cluster` from the start of `input`. False if the data is damaged or
// gives less than a cluster; `cluster` then holds anything. May be called on
// any thread; keeps one decoder for each thread, at most 16 MiB.
[[nodiscard]] bool Decompress(CompressionType type,
                              absl::Span<const uint8_t> input,
                              absl::Span<uint8_t> cluster);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_COMPRESSION_H_
