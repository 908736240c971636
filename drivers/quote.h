// Names in messages: in quotes, on one line whatever they hold.

#ifndef BGFS_DRIVERS_QUOTE_H_
#define BGFS_DRIVERS_QUOTE_H_

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace bgfs {

inline std::string Quote(absl::string_view name) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(name), "\"");
}

}  // namespace bgfs

#endif  // BGFS_DRIVERS_QUOTE_H_
