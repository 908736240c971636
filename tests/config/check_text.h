// What holds for every text that is taken for a configuration, however
// garbled.

#ifndef BGFS_TESTS_CONFIG_CHECK_TEXT_H_
#define BGFS_TESTS_CONFIG_CHECK_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace bgfs::config {

// Reads, validates and plans it. Every mistake must be one printable line that
// points into the text, and what has none must give a plan whose steps find
// all they name. Gives whether anything was wrong with the text.
bool CheckText(const std::string& text);

// Every mistake of a text that is called "c", as people see them.
std::vector<std::string> Mistakes(absl::string_view text);

}  // namespace bgfs::config

#endif  // BGFS_TESTS_CONFIG_CHECK_TEXT_H_
