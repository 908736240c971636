// bgfs stats: what exports and nodes have done so far, or do just now.

#include <unistd.h>

#include <csignal>
#include <iostream>
#include <map>
#include <optional>
#include <utility>

#include "config/cli/find.h"
#include "config/cli/prometheus_text.h"
#include "config/cli/stats_table.h"
#include "config/cli/verb.h"
#include "config/control.h"

namespace bgfs::cli {
namespace {

using config::RunningDaemon;
using control::StatsReply;

enum class Form : uint8_t { kTables, kJson, kPrometheus };

// Daemons, and what each said last.
class Watched {
 public:
  Watched(std::vector<RunningDaemon> daemons, Form form)
      : daemons_(std::move(daemons)), form_(form) {}

  // Asks all, and forgets those that have ended: why, if none is left.
  absl::Status Ask() {
    std::vector<RunningDaemon> alive;
    std::map<std::string, StatsReply> replies;
    absl::Status error;
    for (RunningDaemon& daemon : daemons_) {
      absl::StatusOr<StatsReply> reply = config::RequestStats(daemon);
      if (!reply.ok()) {
        error.Update(reply.status());
        continue;
      }
      replies[daemon.socket] = *std::move(reply);
      alive.push_back(std::move(daemon));
    }
    daemons_ = std::move(alive);
    before_ = std::exchange(now_, std::move(replies));
    return daemons_.empty() ? error : absl::OkStatus();
  }

  bool empty() const { return daemons_.empty(); }

  // Since the time before, once there was one.
  void Print() const {
    if (form_ == Form::kPrometheus) {
      std::vector<StatsReply> replies;
      replies.reserve(now_.size());
      for (const auto& [socket, reply] : now_) replies.push_back(reply);
      std::cout << PrometheusText(replies);
      return;
    }
    for (const auto& [socket, reply] : now_) {
      if (form_ == Form::kJson) {
        std::cout << Json(reply) << "\n";
        continue;
      }
      const auto before = before_.find(socket);
      std::cout << StatsTables(reply, before == before_.end() ? nullptr
                                                              : &before->second)
                << "\n";
    }
  }

 private:
  std::vector<RunningDaemon> daemons_;
  const Form form_;
  std::map<std::string, StatsReply> now_;  // by socket
  std::map<std::string, StatsReply> before_;
};

// Signals that end a watch come here, and nowhere else.
class EndSignals {
 public:
  // Before any other thread: they inherit it.
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  // False if none came.
  bool WaitFor(int seconds) const {
    const timespec limit{seconds, 0};
    return sigtimedwait(&signals_, nullptr, &limit) > 0;
  }

 private:
  sigset_t signals_;
};

// Until one of the signals comes, or nobody is left to be asked.
ExitStatus Watch(Watched* watched, const EndSignals& signals, int seconds,
                 bool clear) {
  static constexpr char kClearScreen[] = "\033[H\033[2J";
  while (watched->Ask().ok() && !watched->empty()) {
    if (clear) std::cout << kClearScreen;
    watched->Print();
    if (!std::cout.flush()) break;  // nobody reads any more
    if (signals.WaitFor(seconds)) break;
  }
  return kFine;
}

}  // namespace

ExitStatus RunStats(const Arguments& arguments) {
  CLI::App app(
      "Says what exports have done for their clients since they began: "
      "requests and MiB a\nsecond, how many were under way on average (DEPTH), "
      "and how long they took: half of\nthem no longer than P50, 99 of 100 no "
      "longer than P99. Then what nodes have done:\nSHARED are flushes that "
      "another one served, WAITS those of requests for others in\ntheir way. "
      "Reads and writes of exports with passthrough are not seen.",
      "bgfs stats");
  std::string path;
  bool json = false;
  bool prometheus = false;
  int seconds = 0;
  app.add_option("PATH", path, "A mount point; without it, all");
  auto* as_json =
      app.add_flag("--json", json,
                   "All counters, one JSON object a line, one for each daemon");
  auto* as_text = app.add_flag("--prometheus", prometheus,
                               "All counters, in Prometheus's text format; of "
                               "several daemons, with a label pid");
  as_text->excludes(as_json);
  app.add_flag("--watch{2}", seconds,
               "Again and again, each time what was done since the last, until "
               "control-C; --watch=SECONDS")
      ->check(CLI::Range(1, 86400));
  if (auto ended = Parse(&app, arguments)) return *ended;
  // CLI11 would list what excludes two others in whatever order.
  if (prometheus && seconds > 0) {
    return FailUsage("stats", "--watch excludes --prometheus");
  }

  std::optional<EndSignals> signals;
  if (seconds > 0) signals.emplace();
  absl::StatusOr<std::vector<RunningDaemon>> daemons = DaemonsFor(path);
  if (!daemons.ok()) return Fail(daemons.status());
  const Form form = prometheus ? Form::kPrometheus
                    : json     ? Form::kJson
                               : Form::kTables;
  Watched watched(*std::move(daemons), form);
  if (seconds > 0) {
    return Watch(&watched, *signals, seconds,
                 form == Form::kTables && isatty(STDOUT_FILENO) == 1);
  }
  if (absl::Status s = watched.Ask(); !s.ok()) return Fail(s);
  watched.Print();
  return kFine;
}

}  // namespace bgfs::cli
