#include "config/cli/change.h"

#include <google/protobuf/text_format.h>

#include <iostream>

#include "absl/strings/str_format.h"
#include "config/cli/find.h"

namespace bgfs::cli {
namespace {

void Print(const control::ApplyReply& reply, bool dry_run) {
  for (const std::string& step : reply.steps()) std::cout << step << "\n";
  if (dry_run) return;
  if (reply.steps().empty()) {
    std::cout << "nothing to do: that is what is live\n";
  } else {
    std::cout << absl::StreamFormat("done; clients waited %.1f ms at most\n",
                                    reply.pause_ms());
  }
}

}  // namespace

void AddChangeOptions(CLI::App* app, ChangeOptions* options) {
  app->add_flag("--dry-run", options->dry_run, "Only print what would be done");
  app->add_flag("--json", options->json, "One JSON object instead");
}

void AddAtOption(CLI::App* app, ChangeOptions* options) {
  app->add_option("--at", options->at,
                  "Where the daemon shows its exports; may be left out where "
                  "only one serves a configuration")
      ->type_name("DIR");
}

ExitStatus ShowChange(const control::ApplyReply& reply,
                      const ChangeOptions& options) {
  for (const std::string& line : reply.errors()) Note(line);
  for (const std::string& line : reply.warnings()) Note(line);
  if (options.json) {
    std::cout << Json(reply) << "\n";
  } else if (reply.errors().empty()) {
    Print(reply, options.dry_run);
  }
  const bool fine = reply.errors().empty() && reply.warnings().empty();
  return fine ? kFine : kFailed;
}

ExitStatus SendChange(const config::RunningDaemon& daemon,
                      const control::ApplyRequest& request,
                      const ChangeOptions& options) {
  const absl::StatusOr<control::ApplyReply> reply =
      config::RequestApply(daemon, request);
  if (!reply.ok()) return Fail(reply.status());
  return ShowChange(*reply, options);
}

ExitStatus ChangeConfig(const ChangeOptions& options,
                        absl::FunctionRef<absl::Status(proto::Config*)> edit) {
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  const auto daemon = FindServing(options.at, /*config_file=*/"");
  if (!daemon.ok()) return Fail(daemon.status());
  const absl::StatusOr<control::ConfigReply> live =
      config::RequestConfig(*daemon);
  if (!live.ok()) return Fail(live.status());
  proto::Config changed;
  if (!google::protobuf::TextFormat::ParseFromString(live->config(),
                                                     &changed)) {
    return Fail("the daemon is of another version of bgfs: use that one's");
  }
  if (absl::Status s = edit(&changed); !s.ok()) return Fail(s);
  control::ApplyRequest request;
  google::protobuf::TextFormat::PrintToString(changed,
                                              request.mutable_config());
  request.set_file("the new configuration");
  request.set_folder(live->folder());
  request.set_generation(live->generation());
  request.set_dry_run(options.dry_run);
  return SendChange(*daemon, request, options);
}

}  // namespace bgfs::cli
