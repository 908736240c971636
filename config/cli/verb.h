// What the verbs share: the table's entry, and how arguments are read, so that
// all of them answer --help and wrong usage alike.
//
// Exit statuses: 0 fine, 1 failed, 2 wrong usage; a verb that has more says so
// in its help. Every error is one line on stderr: `bgfs: what failed, on which
// file or node, what to do`.

#ifndef BGFS_CONFIG_CLI_VERB_H_
#define BGFS_CONFIG_CLI_VERB_H_

#include <google/protobuf/message.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fuse/negotiate.h"

namespace bgfs::cli {

enum ExitStatus : int {
  kFine = 0,
  kFailed = 1,
  kWrongUsage = 2,
  // Of `bgfs check` only.
  kLeaks = 3,
  kCorrupt = 4,
};

using Arguments = std::vector<std::string>;

// One file each.
ExitStatus RunMount(const Arguments& arguments);
ExitStatus RunServe(const Arguments& arguments);
ExitStatus RunApply(const Arguments& arguments);
ExitStatus RunNode(const Arguments& arguments);
ExitStatus RunExport(const Arguments& arguments);
ExitStatus RunResize(const Arguments& arguments);
ExitStatus RunGraph(const Arguments& arguments);
ExitStatus RunUmount(const Arguments& arguments);
ExitStatus RunStatus(const Arguments& arguments);
ExitStatus RunStats(const Arguments& arguments);
ExitStatus RunEvents(const Arguments& arguments);
ExitStatus RunCheck(const Arguments& arguments);
ExitStatus RunCheckConfig(const Arguments& arguments);
ExitStatus RunDoctor(const Arguments& arguments);

// Reads `arguments` into what `app` (named "bgfs VERB") was set up with. A
// value: the verb ends with it, since help was asked for or usage was wrong.
std::optional<ExitStatus> Parse(CLI::App* app, const Arguments& arguments);

// Hidden, of the verbs that mount: --mask-init-flags=N (FUSE_... of
// linux/fuse.h) and --mask-minor=N (protocol 7.N) make the kernel look like an
// older one, which would not offer these.
void AddMaskOptions(CLI::App* app, fuse::KernelMask* mask);

// Prints the line and gives kFailed or kWrongUsage.
ExitStatus Fail(const absl::Status& status);
ExitStatus Fail(absl::string_view message);
ExitStatus FailUsage(absl::string_view verb, absl::string_view message);

// One line on stderr that is no error: `bgfs: message`.
void Note(absl::string_view message);

// For a message's string, which must be UTF-8 where a path need not be.
std::string Text(absl::string_view text);

// A message as one line, with every field and the names of the .proto.
std::string Json(const google::protobuf::Message& message);

// The path from the root, links left as they are.
std::string Absolute(const std::string& path);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_VERB_H_
