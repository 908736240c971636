// New refcount structures, where the old ones are broken: a table and the
// blocks that are needed, in one piece past the end of the file:
//
//   ... old end | block | block | ... | table |
//
// They count what the walk counted, and themselves. Nothing leads to them until
// the header switches, by one write in its first sector; then nothing leads to
// the old ones.

#ifndef BGFS_DRIVERS_QCOW2_REFCOUNT_REBUILD_H_
#define BGFS_DRIVERS_QCOW2_REFCOUNT_REBUILD_H_

#include "absl/status/status.h"
#include "drivers/qcow2/check_context.h"

namespace bgfs::qcow2 {

// Counts anew: without the old structures, and with what a file that was cut
// short gets back when the new ones lengthen it. FailedPrecondition where the
// header cannot be written.
Task<absl::Status> CountForRebuild(CheckContext& context);

// Replaces the structures by new ones that say what was counted.
Task<absl::Status> RebuildRefcounts(CheckContext& context);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_REFCOUNT_REBUILD_H_
