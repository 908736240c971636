// Whether the disk of a qcow2 image uses a host cluster twice.
//
// QEMU shares clusters with snapshots only, but the format allows that two
// entries of the disk itself lead to one cluster. When one of them goes and the
// count falls to 1, nobody knows where the other one stands, and its COPIED
// flag stays clear; QEMU leaves it clear, too.

#ifndef BGFS_TESTS_FUZZ_QCOW2_SHARING_H_
#define BGFS_TESTS_FUZZ_QCOW2_SHARING_H_

#include "absl/strings/string_view.h"

namespace bgfs::qcow2 {

// Of an image whose tables lie in its file.
bool DiskSharesClusters(absl::string_view image);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_FUZZ_QCOW2_SHARING_H_
