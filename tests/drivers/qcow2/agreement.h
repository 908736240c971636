// Whether bgfs and QEMU say the same of a damaged image, and leave the same
// guest bytes where both can repair it.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_AGREEMENT_H_
#define BGFS_TESTS_DRIVERS_QCOW2_AGREEMENT_H_

#include <cstdint>

#include "tests/drivers/qcow2/damage_gen.h"

namespace bgfs::qcow2 {

// Damages `kind` in one image for each seed in [first, last), and compares.
// Where the two may differ, and why, is said in tests/README.md.
void ExpectAgreement(DamageTo kind, uint64_t first, uint64_t last);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_AGREEMENT_H_
