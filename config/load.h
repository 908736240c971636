// Text format → message, with every mistake of the text at its place.
#ifndef BGFS_CONFIG_LOAD_H_
#define BGFS_CONFIG_LOAD_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "config/source.h"

namespace bgfs::config {

// Longer configurations are refused: this is ten thousand nodes.
inline constexpr size_t kMaxConfigBytes = size_t{1} << 20;

// Messages within messages within messages: an inline chain of half as many
// layers. Deeper ones must name their nodes.
inline constexpr int kMaxNesting = 200;

// Reads a file. Blocks. Whatever goes wrong (unreadable, too long, bad text) is
// in the result's `errors`. Relative names will be relative to the folder that
// `path` leads through, symbolic links left as they are.
Source LoadFile(const std::string& path);

// Reads a text that messages will call `file`. Pure. Fields that nobody knows
// are all reported, with the nearest known name; any other mistake of syntax
// ends the reading, and `parsed` is false.
Source LoadText(absl::string_view text, std::string file, std::string folder);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_LOAD_H_
