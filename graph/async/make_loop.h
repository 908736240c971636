// Which body a loop on the kernel gets: io_uring, or threads where the system
// does not let us have it (a container's seccomp filter, the sysctl
// kernel.io_uring_disabled, an old kernel, locked memory that is short).
//
// BGFS_LOOP in the environment, "io_uring" or "threads", leaves no choice: for
// the tests.

#ifndef BGFS_GRAPH_ASYNC_MAKE_LOOP_H_
#define BGFS_GRAPH_ASYNC_MAKE_LOOP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "graph/async/host_loop.h"

namespace bgfs {

// Starts a loop; `name` is its thread's, as top(1) shows it, 15 bytes at most.
// Fails where threads would not help: too many open files, say.
absl::StatusOr<std::unique_ptr<HostLoop>> MakeLoop(const std::string& name);

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_MAKE_LOOP_H_
