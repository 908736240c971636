// Checking an image on a simulated disk.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_SIM_CHECK_H_
#define BGFS_TESTS_DRIVERS_QCOW2_SIM_CHECK_H_

#include <string>

#include "absl/status/statusor.h"
#include "drivers/qcow2/check.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {

// Opens `path` in the world for this alone. An error also where the disk dies
// on the way.
absl::StatusOr<CheckReport> CheckInWorld(SimWorld& world,
                                         const std::string& path,
                                         Repair repair = Repair::kNone);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_SIM_CHECK_H_
