// Repair: makes a checked image say what its tables reference.
//
// A power cut may come at any moment, and a second repair then finds what the
// first one left; so each step is durable before the next relies on it:
//
//   flush                  what is decided on must be on the disk
//   impossible entries     become zeros
//   COPIED flags           cleared where there is not one reference
//   counts                 raised, then lowered; or, where the structures are
//                          broken, written anew past the end of the file, and
//                          the header switches to them by one write
//   COPIED flags           set where there is one reference
//   dirty and corrupt mark cleared, once a second check has found no corruption
//
// What the old structures and lost entries held is not written over.

#ifndef BGFS_DRIVERS_QCOW2_REPAIR_H_
#define BGFS_DRIVERS_QCOW2_REPAIR_H_

#include "absl/status/status.h"
#include "drivers/qcow2/check_context.h"

namespace bgfs::qcow2 {

// Mends what a check has just found, as far as `repair` (not kNone) goes. What
// `context` has counted and found is void afterwards: check again.
// FailedPrecondition where leaks alone cannot be mended.
Task<absl::Status> RepairImage(CheckContext& context, Repair repair);

// Clears the dirty and the corrupt mark: the image is right, and durably so.
Task<IoStatus> ClearMarks(CheckContext& context);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_REPAIR_H_
