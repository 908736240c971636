#include "fuse/passthrough.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace bgfs::fuse {

const absl::StatusOr<int32_t>& Passthrough::BackingId(
    const Agreement& agreement) {
  if (!id_.has_value()) id_ = Open(agreement);
  return *id_;
}

absl::StatusOr<int32_t> Passthrough::Open(const Agreement& agreement) const {
  if (!agreement.Has(kInitPassthrough)) {
    return absl::FailedPreconditionError(
        "this kernel has no passthrough for FUSE (Linux 6.9, "
        "CONFIG_FUSE_PASSTHROUGH); leave out passthrough");
  }
  BackingMap map = {.fd = fd_, .flags = 0, .padding = 0};
  const int id = ioctl(device_.get(), kBackingOpen, &map);
  if (id > 0) return id;
  switch (errno) {
    case EPERM:
      return absl::FailedPreconditionError(
          "passthrough is for root (CAP_SYS_ADMIN); leave it out");
    case ELOOP:
      return absl::FailedPreconditionError(
          "the kernel passes nothing through to a file system that stands on "
          "others in turn; leave out passthrough");
    default:
      return absl::UnavailableError(
          absl::StrCat("the kernel refused passthrough for this image (",
                       std::strerror(errno), "); leave it out"));
  }
}

}  // namespace bgfs::fuse
