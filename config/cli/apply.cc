// bgfs apply: a running daemon becomes what a configuration says.

#include <google/protobuf/util/json_util.h>

#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/cli/find.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"
#include "config/load.h"
#include "config/validate.h"

namespace bgfs::cli {
namespace {

void PrintJson(const control::ApplyReply& reply) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(reply, &text, options);
  std::cout << text << "\n";
}

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

ExitStatus RunApply(const Arguments& arguments) {
  CLI::App app(
      "Makes a running bgfs serve what a configuration says: nodes are opened, "
      "reopened,\nlinked and closed, exports added and removed, all of it or "
      "nothing. Clients of what\nis touched wait for a moment; others notice "
      "nothing. Prints each step.",
      "bgfs apply");
  std::string file;
  std::string path;
  bool dry_run = false;
  bool json = false;
  app.add_option("CONFIG", file, "The configuration (protobuf text format)")
      ->required();
  app.add_option("DIR", path,
                 "Where the daemon shows its exports; may be left out where "
                 "only one serves a configuration");
  app.add_flag("--dry-run", dry_run, "Only print what would be done");
  app.add_flag("--json", json, "One JSON object instead");
  if (auto ended = Parse(&app, arguments)) return *ended;

  // Its mistakes are the same here as there, and told with no daemon at all.
  const config::Source source = config::LoadFile(file);
  const std::vector<config::Diagnostic> mistakes = config::Validate(source);
  control::ApplyReply wrong;
  for (const config::Diagnostic& mistake : mistakes) {
    wrong.add_errors(Text(config::Format(source.file, mistake)));
    Note(wrong.errors().Get(wrong.errors_size() - 1));
  }
  if (!mistakes.empty()) {
    if (json) PrintJson(wrong);
    return kFailed;
  }
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  absl::StatusOr<config::RunningDaemon> daemon =
      FindServing(path, Absolute(file));
  if (!daemon.ok()) return Fail(daemon.status());

  control::ApplyRequest request;
  request.set_config(source.written->text.text());
  request.set_file(Text(source.file));
  request.set_folder(Text(source.folder));
  request.set_dry_run(dry_run);
  const absl::StatusOr<control::ApplyReply> reply =
      config::RequestApply(*daemon, request);
  if (!reply.ok()) return Fail(reply.status());
  for (const std::string& line : reply->errors()) Note(line);
  for (const std::string& line : reply->warnings()) Note(line);
  if (json) {
    PrintJson(*reply);
  } else if (reply->errors().empty()) {
    Print(*reply, dry_run);
  }
  const bool fine = reply->errors().empty() && reply->warnings().empty();
  return fine ? kFine : kFailed;
}

}  // namespace bgfs::cli
