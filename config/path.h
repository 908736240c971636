// File names as text: nothing here looks at a file system.
#ifndef BGFS_CONFIG_PATH_H_
#define BGFS_CONFIG_PATH_H_

#include <string>

#include "absl/strings/string_view.h"

namespace bgfs::config {

// `name` itself if it is absolute, else below `folder`. Nothing is shortened:
// a ".." behind a symbolic link leads elsewhere than the text suggests.
std::string Resolve(absl::string_view folder, absl::string_view name);

// The same without ".", ".." and repeated slashes: for comparing, not for
// opening. `path` is absolute.
std::string Normal(absl::string_view path);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_PATH_H_
