#include "graph/async/errno_name.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"

namespace bgfs {
namespace {

// Linux has a few more than a hundred.
constexpr int kMaxErrno = 1000;

}  // namespace

int ErrnoOf(absl::string_view name) {
  // Second names, which the system's list does not have.
  if (name == "ENOTSUP" || name == "EOPNOTSUPP") return ENOTSUP;
  if (name == "EWOULDBLOCK") return EWOULDBLOCK;
  int number = 0;
  const bool is_number = absl::SimpleAtoi(name, &number);
  for (int error = 1; error <= kMaxErrno; ++error) {
    const char* const known = strerrorname_np(error);
    if (known == nullptr) continue;
    if (is_number ? error == number : name == known) return error;
  }
  return 0;
}

}  // namespace bgfs
