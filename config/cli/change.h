// What the verbs share that change a running daemon's configuration: it is
// asked for, changed here, and applied, unless somebody else was faster.

#ifndef BGFS_CONFIG_CLI_CHANGE_H_
#define BGFS_CONFIG_CLI_CHANGE_H_

#include <CLI/CLI.hpp>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "proto/bgfs.pb.h"

namespace bgfs::cli {

struct ChangeOptions {
  std::string at;  // a folder or file that the daemon shows; may be empty
  bool dry_run = false;
  bool json = false;
};

// All but `at`.
void AddChangeOptions(CLI::App* app, ChangeOptions* options);
// --at, for verbs that have other positionals.
void AddAtOption(CLI::App* app, ChangeOptions* options);

// Prints what became of it.
ExitStatus ShowChange(const control::ApplyReply& reply,
                      const ChangeOptions& options);

// Prints errors itself, as the next one does.
ExitStatus SendChange(const config::RunningDaemon& daemon,
                      const control::ApplyRequest& request,
                      const ChangeOptions& options);

// Lets `edit` change what is live, and sends it.
ExitStatus ChangeConfig(const ChangeOptions& options,
                        absl::FunctionRef<absl::Status(proto::Config*)> edit);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_CHANGE_H_
