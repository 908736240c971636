// What is wrong with a configuration, and where; and the small helpers that
// make such lines readable.
#ifndef BGFS_CONFIG_DIAGNOSTIC_H_
#define BGFS_CONFIG_DIAGNOSTIC_H_

#include <compare>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace bgfs::config {

// A place in a text: line and column count from 1, columns in bytes. Both are 0
// for what was not read from a text (a command line, a file as a whole).
struct Position {
  int line = 0;
  int column = 0;

  friend bool operator==(const Position&, const Position&) = default;
  friend auto operator<=>(const Position&, const Position&) = default;
};

// One mistake.
struct Diagnostic {
  Position at;
  // One line without a newline or control characters; says what to do.
  std::string message;

  friend bool operator==(const Diagnostic&, const Diagnostic&) = default;
  friend auto operator<=>(const Diagnostic&, const Diagnostic&) = default;
};

// "file:line:column: message", without what is empty or 0.
std::string Format(absl::string_view file, const Diagnostic& diagnostic);

// The text on one line, whatever it holds: control characters and bytes that
// are not UTF-8 are escaped, and what is longer than `limit` bytes is cut.
std::string Printable(absl::string_view text, size_t limit = 200);

// Printable text in double quotes, cut so that a message stays readable.
std::string Quote(absl::string_view text);

// `; did you mean "node_name"?` with the candidate that is nearest to `name`,
// the first of equals; empty if none is near. Case does not count.
std::string DidYouMean(absl::string_view name,
                       const std::vector<std::string>& candidates);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_DIAGNOSTIC_H_
