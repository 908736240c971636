// What can be wrong with an image, each kind done to a CheckableImage, with
// what a check finds, and what remains when all was repaired.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_DAMAGES_H_
#define BGFS_TESTS_DRIVERS_QCOW2_DAMAGES_H_

#include <functional>
#include <ostream>
#include <vector>

#include "tests/drivers/qcow2/check_file.h"
#include "tests/drivers/qcow2/checkable_image.h"

namespace bgfs::qcow2 {

struct Damage {
  const char* name;
  std::function<void(CheckableImage&)> damage;
  const char* found;  // as Summary()
  Verdict qemu;       // what QEMU finds
  const char* remains = "";
  // QEMU repairs it, too, and the guest then reads the same.
  bool qemu_agrees = true;
};

void PrintTo(const Damage& damage, std::ostream* out);

const std::vector<Damage>& Damages();

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_DAMAGES_H_
