#include "graph/async/io_status.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace bgfs {

absl::Status IoStatus::ToStatus(absl::string_view context) const {
  if (ok()) return absl::OkStatus();
  return absl::Status(absl::ErrnoToStatusCode(error_),
                      absl::StrCat(context, ": ", std::strerror(error_)));
}

}  // namespace bgfs
