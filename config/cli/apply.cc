// bgfs apply: a running daemon becomes what a configuration says.

#include "config/cli/change.h"
#include "config/cli/find.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"
#include "config/load.h"
#include "config/validate.h"

namespace bgfs::cli {

ExitStatus RunApply(const Arguments& arguments) {
  CLI::App app(
      "Makes a running bgfs serve what a configuration says: nodes are opened, "
      "reopened,\nlinked and closed, exports added and removed, all of it or "
      "nothing. Clients of what\nis touched wait for a moment; others notice "
      "nothing. Prints each step.",
      "bgfs apply");
  std::string file;
  ChangeOptions options;
  app.add_option("CONFIG", file, "The configuration (protobuf text format)")
      ->required();
  app.add_option("DIR", options.at,
                 "Where the daemon shows its exports; may be left out where "
                 "only one serves a configuration");
  AddChangeOptions(&app, &options);
  if (auto ended = Parse(&app, arguments)) return *ended;

  // Its mistakes are the same here as there, and told with no daemon at all.
  const config::Source source = config::LoadFile(file);
  control::ApplyReply wrong;
  for (const config::Diagnostic& mistake : config::Validate(source)) {
    wrong.add_errors(Text(config::Format(source.file, mistake)));
  }
  if (!wrong.errors().empty()) return ShowChange(wrong, options);
  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  const auto daemon = FindServing(options.at, Absolute(file));
  if (!daemon.ok()) return Fail(daemon.status());

  control::ApplyRequest request;
  request.set_config(source.written->text.text());
  request.set_file(Text(source.file));
  request.set_folder(Text(source.folder));
  request.set_dry_run(options.dry_run);
  return SendChange(*daemon, request, options);
}

}  // namespace bgfs::cli
