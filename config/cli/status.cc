// bgfs status: what is shown, and where.

#include <climits>
#include <iostream>

#include "absl/strings/ascii.h"
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

  const absl::StatusOr<std::vector<config::RunningDaemon>> daemons =
      DaemonsFor(path);
  if (!daemons.ok()) return Fail(daemons.status());
  for (const config::RunningDaemon& daemon : *daemons) {
    if (json) {
      std::cout << Json(daemon.status) << "\n";
    } else {
      Print(daemon.status);
    }
  }
  return kFine;
}

}  // namespace bgfs::cli
