// Names in messages: on one line whatever they hold, and harmless to whoever
// copies a command that a message proposes.

#ifndef BGFS_DRIVERS_QUOTE_H_
#define BGFS_DRIVERS_QUOTE_H_

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace bgfs {

inline std::string Quote(absl::string_view name) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(name), "\"");
}

// The name as one word of a shell.
inline std::string ShellWord(absl::string_view name) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(c) ||
           absl::string_view("_-./+,:@%").find(c) != absl::string_view::npos;
  };
  if (!name.empty() && std::all_of(name.begin(), name.end(), plain)) {
    return std::string(name);
  }
  // Quotes and backslashes are among what is escaped.
  const std::string escaped = absl::CEscape(name);
  return absl::StrCat(escaped == name ? "'" : "$'", escaped, "'");
}

}  // namespace bgfs

#endif  // BGFS_DRIVERS_QUOTE_H_
