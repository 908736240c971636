// Errnos by the names that people write.

#ifndef BGFS_GRAPH_ASYNC_ERRNO_NAME_H_
#define BGFS_GRAPH_ASYNC_ERRNO_NAME_H_

#include "absl/strings/string_view.h"

namespace bgfs {

// The positive errno that is called so ("EIO") or has this number ("5"); 0 if
// the system knows none such.
int ErrnoOf(absl::string_view name);

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_ERRNO_NAME_H_
