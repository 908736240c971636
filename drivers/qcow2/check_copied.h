// The third pass of a check: the COPIED flags ("L1 table entry", "L2 table
// entry"). A flag says that the refcount of what the entry points to is exactly
// one, so that it may be written in place. Flags are right in the active L1
// table and the L2 tables that it leads to; elsewhere they mean nothing.

#ifndef BGFS_DRIVERS_QCOW2_CHECK_COPIED_H_
#define BGFS_DRIVERS_QCOW2_CHECK_COPIED_H_

#include "drivers/qcow2/check_context.h"

namespace bgfs::qcow2 {

enum class CopiedPass : uint8_t {
  kReport,      // against the counts that are stored
  kClearWrong,  // clears it where there is not exactly one reference
  kSetRight,    // sets it where there is
};

Task<IoStatus> VisitCopied(CheckContext& context, CopiedPass pass);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CHECK_COPIED_H_
