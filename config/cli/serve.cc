// bgfs serve: every export of a configuration.

#include "absl/strings/str_cat.h"
#include "config/cli/daemon.h"
#include "config/cli/verb.h"
#include "config/diagnostic.h"
#include "config/load.h"
#include "config/path.h"
#include "config/validate.h"

namespace bgfs::cli {
namespace {

// What a daemon that died has left where the exports are to appear, and where
// images may lie.
absl::Status DetachAllDead(const config::Source& source,
                           const std::string& folder) {
  if (!folder.empty()) {
    if (absl::Status s = DetachDead(folder); !s.ok()) return s;
  }
  for (const proto::Export& item : source.config.exports()) {
    if (!item.fuse().has_mountpoint()) continue;
    absl::Status s =
        DetachDead(config::Resolve(source.folder, item.fuse().mountpoint()));
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace

ExitStatus RunServe(const Arguments& arguments) {
  CLI::App app(
      "Shows every export of a configuration as a file named by its id in DIR, "
      "or at its\nown mount point, and returns once they are usable. End it "
      "with: bgfs umount DIR\nIn the foreground it tells a service manager how "
      "it goes (sd_notify, systemd's\nType=notify; see bgfs@.service).",
      "bgfs serve");
  std::string file;
  std::string folder;
  std::vector<std::string> allow_implicit;
  DaemonOptions daemon;
  app.add_option("CONFIG", file, "The configuration (protobuf text format)")
      ->required();
  app.add_option("DIR", folder,
                 "An empty folder; may be left out where every export has a "
                 "mount point");
  app.add_option("--allow-implicit", allow_implicit,
                 "A folder into which names in image headers may lead besides "
                 "the image's own")
      ->type_name("DIR")
      ->allow_extra_args(false);
  AddDaemonOptions(&app, &daemon);
  if (auto ended = Parse(&app, arguments)) return *ended;

  NoticeSlowStart(daemon, absl::StrCat("what ", config::Quote(file), " names"));
  DaemonJob job;
  job.source = config::LoadFile(file);
  const std::vector<config::Diagnostic> mistakes = config::Validate(job.source);
  for (const config::Diagnostic& mistake : mistakes) {
    Note(config::Format(job.source.file, mistake));
  }
  if (!mistakes.empty()) return kFailed;
  absl::Status cleared = DetachAllDead(job.source, folder);
  if (!cleared.ok()) return Fail(cleared);
  if (absl::Status s = CheckFolder(job.source.config, folder); !s.ok()) {
    return Fail(s);
  }
  for (const std::string& allowed : allow_implicit) {
    job.allow_implicit.push_back(Absolute(allowed));
  }
  job.options = daemon;
  job.config_file = Absolute(file);
  job.layout.source = job.config_file;
  if (!folder.empty()) job.layout.folder = Absolute(folder);
  return RunDaemon(job);
}

}  // namespace bgfs::cli
