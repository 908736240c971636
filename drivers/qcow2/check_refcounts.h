// The second pass of a check: the counts that are stored ("Host cluster
// management") against the references that the walk has counted.

#ifndef BGFS_DRIVERS_QCOW2_CHECK_REFCOUNTS_H_
#define BGFS_DRIVERS_QCOW2_CHECK_REFCOUNTS_H_

#include <cstdint>

#include "drivers/qcow2/check_context.h"

namespace bgfs::qcow2 {

// The block that holds the counts of clusters index * RefcountsPerBlock() on;
// 0 if there is none that could be read.
HostOffset RefcountBlockAt(const CheckContext& context, int64_t index);

// Reports every count that is not the number of references, marks in
// `references` which counts are 1, and says in the context whether the
// structures must be rebuilt.
Task<IoStatus> CompareRefcounts(CheckContext& context);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CHECK_REFCOUNTS_H_
