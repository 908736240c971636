// Sizes as people write them: "4096", "64K", "10GiB".
#ifndef BGFS_CONFIG_SIZE_H_
#define BGFS_CONFIG_SIZE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace bgfs::config {

// A decimal number of bytes, alone or with K, M, G, T, P or E in either case
// (powers of 1024), which "B" or "iB" may follow. No sign, no fraction, no
// space. InvalidArgument for anything else and for what exceeds 2^63 - 1, with
// a message that quotes the text.
absl::StatusOr<int64_t> ParseSize(absl::string_view text);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_SIZE_H_
