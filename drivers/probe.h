// Which format an image has, from its first bytes.
//
// A format is only ever taken from a magic, never from the lack of one: a guest
// that writes a qcow2 header into its raw disk would otherwise choose which
// files of the host it sees next time.

#ifndef BGFS_DRIVERS_PROBE_H_
#define BGFS_DRIVERS_PROBE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/async/loop.h"

namespace bgfs {

// So much of an image's start tells its format.
inline constexpr int64_t kProbeBytes = 512;

// "qcow2", or empty when `start` (kProbeBytes, or the whole file if it is
// shorter) has no known magic. UNIMPLEMENTED, one phrase, for the magic of a
// format that cannot be opened.
absl::StatusOr<std::string> ProbeFormat(absl::string_view start);

// The same for a host file whose format nobody gave: "qcow2", or an error that
// names the file and says what to do. On `loop`.
Task<absl::StatusOr<std::string>> ProbeFile(Loop& loop, std::string filename);

}  // namespace bgfs

#endif  // BGFS_DRIVERS_PROBE_H_
