// What a verb says of itself beside its help: a page for man(1), and the words
// that a shell may complete. Both come from what the verb has told CLI11, so
// that they are never older than the verb.

#ifndef BGFS_CONFIG_CLI_DESCRIBE_H_
#define BGFS_CONFIG_CLI_DESCRIBE_H_

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace bgfs::cli {

// Hidden arguments of every verb: --help-man=SUMMARY, and --help-words with, if
// it has any, the name of a subcommand.
inline constexpr absl::string_view kManArgument = "--help-man=";
inline constexpr absl::string_view kWordsArgument = "--help-words";

// bgfs-VERB(1), in troff.
std::string ManPage(const CLI::App& app, absl::string_view summary);
// bgfs(1), of the verbs and their summaries.
std::string ManPageOfAll(
    const std::vector<std::pair<std::string, std::string>>& verbs);

// Options and subcommands, one a line. `subcommand` may be empty.
std::string Words(const CLI::App& app, const std::string& subcommand);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_DESCRIBE_H_
