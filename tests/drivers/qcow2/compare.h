// Reads a chain through the driver in many ways and compares with the truth.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_COMPARE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_COMPARE_H_

#include <cstdint>

#include "tests/drivers/qcow2/chain_gen.h"

namespace bgfs::qcow2 {

// Makes the chain of `seed` and expects, of what the driver gives: the bytes of
// `qemu-img convert` at many sizes and alignments, alone and at once, and a
// block status that agrees with the bytes and with `qemu-img map`.
void CompareChainOfSeed(uint64_t seed);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_COMPARE_H_
