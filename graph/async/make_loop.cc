#include "graph/async/make_loop.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/thread_loop.h"
#include "graph/async/uring_loop.h"

namespace bgfs {
namespace {

// Whether it says that io_uring is not for us. ENOMEM may be meant in earnest;
// then threads do not start either.
bool DeniesUring(int error) {
  switch (error) {
    case EPERM:   // seccomp, kernel.io_uring_disabled
    case EACCES:  // a security module
    case ENOSYS:  // seccomp, or a kernel built without
    case EINVAL:  // a kernel older than 6.1
    case ENOMEM:  // locked memory
      return true;
    default:
      return false;
  }
}

std::string Explain(int error) {
  return absl::StrCat("io_uring_setup: ", std::strerror(error),
                      error == EINVAL ? " (it needs Linux 6.1)" : "");
}

absl::StatusOr<std::unique_ptr<HostLoop>> MakeThreads(const std::string& name,
                                                      std::string why) {
  auto loop = ThreadLoop::Start(name, std::move(why));
  if (!loop.ok()) return loop.status().ToStatus("cannot start a thread's loop");
  return *std::move(loop);
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostLoop>> MakeLoop(const std::string& name) {
  const char* variable = std::getenv("BGFS_LOOP");
  const absl::string_view forced = variable == nullptr ? "" : variable;
  if (forced == "threads") return MakeThreads(name, "BGFS_LOOP=threads");
  if (!forced.empty() && forced != "io_uring") {
    return absl::InvalidArgumentError(absl::StrCat(
        "BGFS_LOOP is \"", forced, "\"; it can be io_uring or threads"));
  }
  auto loop = UringLoop::Start(name);
  if (loop.ok()) return *std::move(loop);
  if (forced.empty() && DeniesUring(loop.error())) {
    return MakeThreads(name, Explain(loop.error()));
  }
  return loop.status().ToStatus(
      absl::StrCat("cannot set up io_uring for \"", name, "\""));
}

}  // namespace bgfs
