// bgfs status: what is shown, and where.

#include <google/protobuf/util/json_util.h>

#include <climits>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/cli/find.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"

namespace bgfs::cli {
namespace {

void Print(const control::StatusReply& status) {
  for (const control::ExportStatus& item : status.exports()) {
    std::cout << absl::StreamFormat(
        "%s  %s  %s  %d bytes  node %s  %s  loop %s  pid %d\n",
        config::Printable(item.mountpoint(), PATH_MAX),
        absl::AsciiStrToLower(control::ExportStatus::State_Name(item.state())),
        item.writable() ? "rw" : "ro", item.size_bytes(),
        config::Printable(item.node(), PATH_MAX), item.transport(), item.loop(),
        status.pid());
  }
}

void PrintJson(const control::StatusReply& status) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(status, &text, options);
  std::cout << text << "\n";
}

}  // namespace

ExitStatus RunStatus(const Arguments& arguments) {
  CLI::App app(
      "Says what is shown: MOUNTPOINT STATE ACCESS SIZE NODE TRANSPORT LOOP "
      "PID, one line for\neach export. With PATH, exit status 1 if no daemon "
      "shows it.",
      "bgfs status");
  std::string path;
  bool json = false;
  app.add_option("PATH", path, "A mount point; without it, all");
  app.add_flag("--json", json, "One JSON object a line, one for each daemon");
  if (auto ended = Parse(&app, arguments)) return *ended;

  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  std::vector<config::RunningDaemon> daemons;
  if (path.empty()) {
    config::VisitDaemons([&daemons](const config::RunningDaemon& daemon) {
      daemons.push_back(daemon);
      return true;
    });
  } else {
    absl::StatusOr<fuse::Place> place = FindOurMount(path);
    if (!place.ok()) return Fail(TellWhere(path, place.status()));
    std::optional<config::RunningDaemon> daemon = FindDaemonOf(*place);
    if (!daemon.has_value()) {
      return Fail(absl::StrCat("no daemon answers for ", config::Quote(path)));
    }
    daemons.push_back(*std::move(daemon));
  }
  for (const config::RunningDaemon& daemon : daemons) {
    json ? PrintJson(daemon.status) : Print(daemon.status);
  }
  return kFine;
}

}  // namespace bgfs::cli
