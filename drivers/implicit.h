// Implicit images: those that the header of an image names, as its backing
// file. Whoever wrote the image chose the name, so it is read strictly, and led
// only where the policy allows.

#ifndef BGFS_DRIVERS_IMPLICIT_H_
#define BGFS_DRIVERS_IMPLICIT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "drivers/open_context.h"

namespace bgfs {

struct ImplicitImage {
  std::string filename;  // as it stands in the name
  std::string format;    // "qcow2", "raw", or empty if the name does not say
};

// Reads a name in one of the forms that QEMU writes:
//
//   base.img               a path
//   file:base.img          the same
//   json:{"driver": "qcow2", "file": {"driver": "file", "filename": "..."}}
//   json:{"driver": "raw", "file.filename": "..."}
//
// Other protocols, drivers and keys are refused by name. Errors are one phrase.
absl::StatusOr<ImplicitImage> ParseImageName(absl::string_view name);

// The format that a header gives besides the name: "qcow2", "raw" (also for
// the protocols "file" and "host_device"). UNIMPLEMENTED for others.
absl::StatusOr<std::string> ParseImageFormat(absl::string_view format);

// Where `filename`, found in the header of the image `holder`, is: relative
// names are relative to the holder's folder, as the holder was named.
std::string LocateImplicit(absl::string_view holder,
                           absl::string_view filename);

// The path to open for `path`, named by the header of `holder`: itself with
// policy ANY, else with symbolic links resolved. PERMISSION_DENIED, with the
// option that would allow it, where the policy forbids it. Blocks.
absl::StatusOr<std::string> CheckImplicit(const OpenContext& context,
                                          const std::string& holder,
                                          const std::string& path);

}  // namespace bgfs

#endif  // BGFS_DRIVERS_IMPLICIT_H_
