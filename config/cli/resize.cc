// bgfs resize: another size for what an export shows, while it is shown.

#include <algorithm>
#include <iostream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "config/cli/find.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"
#include "config/size.h"

namespace bgfs::cli {
namespace {

const control::ExportStatus* FindExport(const config::RunningDaemon& daemon,
                                        const fuse::Place& place) {
  const auto& exports = daemon.status.exports();
  const auto found = std::find_if(exports.begin(), exports.end(),
                                  [&place](const control::ExportStatus& item) {
                                    return item.st_dev() == place.device;
                                  });
  return found == exports.end() ? nullptr : &*found;
}

}  // namespace

ExitStatus RunResize(const Arguments& arguments) {
  CLI::App app(
      "Gives the image behind a file another size while clients use it, also "
      "where these may\nnot change it; they wait for a moment. Returns when "
      "that is durable.",
      "bgfs resize");
  std::string path;
  std::string text;
  bool shrink = false;
  app.add_option("FILE", path, "The file that bgfs shows")->required();
  app.add_option("SIZE", text, "The size it is to have: bytes, or 20G, 512M")
      ->required();
  app.add_flag("--shrink", shrink, "What lies behind the new end may be lost");
  if (auto ended = Parse(&app, arguments)) return *ended;

  const absl::StatusOr<uint64_t> size = config::ParseSize(text);
  if (!size.ok()) return FailUsage("resize", size.status().message());
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  const absl::StatusOr<fuse::Place> place = FindOurMount(path);
  if (!place.ok()) return Fail(TellWhere(path, place.status()));
  const std::optional<config::RunningDaemon> daemon = FindDaemonOf(*place);
  const control::ExportStatus* item =
      daemon.has_value() ? FindExport(*daemon, *place) : nullptr;
  if (item == nullptr) {
    return Fail(absl::StrCat("no daemon shows ", config::Quote(path),
                             " as a file; see: bgfs status"));
  }
  control::ResizeRequest request;
  request.set_id(item->id());
  request.set_size_bytes(static_cast<uint64_t>(*size));
  request.set_shrink(shrink);
  const auto reply = config::RequestResize(*daemon, request);
  if (!reply.ok()) return Fail(reply.status());
  if (!reply->error().empty()) return Fail(reply->error());
  std::cout << path << ": " << reply->was_bytes() << " -> " << *size
            << " bytes\n";
  return kFine;
}

}  // namespace bgfs::cli
