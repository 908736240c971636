// bgfs events: what happens in daemons, a line for each, as it happens.

#include <cstring>
#include <iostream>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "config/cli/find.h"
#include "config/cli/signals.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"

namespace bgfs::cli {
namespace {

using control::Event;

std::string Describe(const Event& event) {
  switch (event.what_case()) {
    case Event::kFollowing:
      return absl::StrCat("following the daemon (pid ", event.following().pid(),
                          ")");
    case Event::kWriteThreshold:
      return absl::StrCat("node ",
                          config::Quote(event.write_threshold().node()),
                          ": written past its threshold of ",
                          event.write_threshold().threshold(), " bytes by ",
                          event.write_threshold().exceeded_by());
    case Event::kFlushFailed:
      return absl::StrCat(
          "node ", config::Quote(event.flush_failed().node()),
          ": a flush failed: ", std::strerror(event.flush_failed().error()));
    case Event::kExportAdded:
      return absl::StrCat("export ", config::Quote(event.export_added().id()),
                          " is at ", Text(event.export_added().mountpoint()));
    case Event::kExportRemoved:
      return absl::StrCat("export ", config::Quote(event.export_removed().id()),
                          " is gone");
    case Event::WHAT_NOT_SET:
      break;
  }
  return "something that this version of bgfs does not know";
}

std::string Line(const Event& event) {
  std::string line = absl::FormatTime("%Y-%m-%dT%H:%M:%E3S%Ez  ",
                                      absl::FromUnixNanos(event.time_ns()),
                                      absl::LocalTimeZone());
  if (event.lost() > 0) {
    absl::StrAppend(&line, "(", event.lost(), " lost before) ");
  }
  return absl::StrCat(line, Describe(event));
}

// Each daemon is read by a thread of its own.
class Followers {
 public:
  explicit Followers(bool json) : json_(json) {}

  // Nothing when Cancel() came before.
  void Add(const config::RunningDaemon& daemon) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!cancelled_) readers_.emplace_back(daemon);
  }
  // Until all daemons have ended.
  absl::Status Run() {
    std::list<std::thread> threads;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (config::EventReader& reader : readers_) {
        threads.emplace_back([this, &reader] { Follow(&reader); });
      }
    }
    for (std::thread& thread : threads) thread.join();
    return outcome_;
  }
  void Cancel() {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    for (config::EventReader& reader : readers_) reader.Cancel();
  }

 private:
  void Follow(config::EventReader* reader) {
    while (const std::optional<Event> event = reader->Next()) Print(*event);
    const absl::Status ended = reader->Finish();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!cancelled_) outcome_.Update(ended);
  }

  void Print(const Event& event) {
    const std::lock_guard<std::mutex> lock(print_mutex_);
    std::cout << (json_ ? Json(event) : Line(event)) << std::endl;
    if (!std::cout) Cancel();  // nobody reads
  }

  const bool json_;
  std::mutex print_mutex_;  // before mutex_
  std::mutex mutex_;
  // All below is used with mutex_ held.
  std::list<config::EventReader> readers_;
  bool cancelled_ = false;
  absl::Status outcome_;
};

}  // namespace

ExitStatus RunEvents(const Arguments& arguments) {
  CLI::App app(
      "Says what happens, one line for each event, until the daemon ends or "
      "control-C: exports\nthat come and go, flushes that fail, and writes "
      "past a node's write_threshold.",
      "bgfs events");
  std::string path;
  bool json = false;
  app.add_option("PATH", path,
                 "A mount point; without it, all daemons that run now");
  app.add_flag("--json", json, "One JSON object a line");
  if (auto ended = Parse(&app, arguments)) return *ended;

  Followers followers(json);
  // Before any other thread: they inherit what is blocked.
  const SignalThread signals([&followers](int) { followers.Cancel(); });
  const absl::StatusOr<std::vector<config::RunningDaemon>> daemons =
      DaemonsFor(path);
  if (!daemons.ok()) return Fail(daemons.status());
  for (const config::RunningDaemon& daemon : *daemons) followers.Add(daemon);
  if (absl::Status s = followers.Run(); !s.ok()) return Fail(s);
  return kFine;
}

}  // namespace bgfs::cli
