// The running bgfs: opens a graph, mounts its exports, and ends them all.
//
// The thread that calls Run() does everything that blocks. Loops serve; the
// threads of the control service and of signals only say what is wanted:
//
//   start ──▶ serving ──umount asked──▶ unmount ──────────────▶ close ──▶ exit
//                │  ▲                      │ something is open    ▲
//                │  └──────── refused ◀────┘                      │
//                ├──apply asked, SIGHUP──▶ (daemon_change.cc) ──▶ serving
//                ├──force asked, SIGTERM──▶ settle, detach ───────┤
//                └──every mount is gone───────────────────────────┘
//
// Umount(2) comes first, since it writes mapped pages back, and the gates close
// after it. Once force was asked there is a time limit: a part that has not
// closed by then is reported as stuck, and the process ends without it.

#ifndef BGFS_CONFIG_CLI_DAEMON_H_
#define BGFS_CONFIG_CLI_DAEMON_H_

#include <condition_variable>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "config/apply.h"
#include "config/cli/mounts.h"
#include "config/cli/startup.h"
#include "config/cli/verb.h"
#include "config/cli/watchdog.h"
#include "config/control.h"
#include "config/events.h"
#include "config/plan.h"
#include "config/source.h"
#include "config/stats_collector.h"
#include "drivers/open_context.h"
#include "drivers/throttle_group.h"
#include "fuse/device.h"
#include "fuse/negotiate.h"

namespace bgfs::cli {

struct DaemonJob {
  config::Source source;    // Validate finds nothing in it
  std::string config_file;  // absolute; empty for `bgfs mount`
  // Of the command line, beside what the configuration allows; absolute.
  std::vector<std::string> allow_implicit;
  Layout layout;
  DaemonOptions options;
  std::string notice;  // told once the files are usable; empty: nothing
};

// Becomes a daemon (or stays in the foreground) and runs it to its end. Call it
// while the process has one thread. Prints errors itself.
ExitStatus RunDaemon(const DaemonJob& job);

class Daemon final : public config::ControlHandler {
 public:
  // Both outlive it.
  Daemon(const DaemonJob* job, Startup* startup)
      : job_(job), startup_(startup) {}

  // Once.
  ExitStatus Run();

  // From any thread: end, with force.
  void AskForForce();
  // From any thread: read the configuration again, and become what it says.
  void AskForReload();

  control::StatusReply Status() override;
  control::StatsReply Stats() override;
  std::shared_ptr<config::EventHub::Follower> FollowEvents() override;
  absl::Status SetWriteThreshold(const std::string& node,
                                 int64_t bytes) override;
  control::ShutdownReply Shutdown(bool force) override;
  control::ApplyReply Apply(const control::ApplyRequest& request) override;
  control::ConfigReply Config() override;
  control::GraphReply Graph() override;
  control::ResizeReply Resize(const control::ResizeRequest& request) override;
  std::optional<control::ShutdownReply> WaitEnd(
      absl::FunctionRef<bool()> given_up) override;

 private:
  enum class Phase : uint8_t {
    kOpening,
    kMounting,
    kServing,
    kChanging,
    kClosing,
    kEnded
  };

  // Life (daemon.cc).
  static void NeverWaitForOwnPages();
  absl::Status Open();
  absl::Status JoinSharedBases(config::Plan* plan);
  absl::Status SetGroup(const proto::ThrottleGroup& group);
  absl::Status Show();
  OpenContext ContextOf(const config::Plan& plan);
  config::Factories MakeFactories(const config::Plan& plan);
  void Warn(absl::string_view line);
  void OnDisconnect(int export_number);
  bool AllDisconnected() const;
  void NoteExport(int number, const config::LiveExport& item);
  void NoteMounts();
  void ServeUntilEnd();
  void SetPhase(Phase phase);
  // Asks every home at once; the size of one that does not answer stays.
  void Learn();
  ExitStatus Report(const control::ShutdownReply& outcome);
  // What is told as it happens (daemon_events.cc), with mutex_ held but for the
  // last.
  void TellAdded(int export_number);
  void TellRemoved(int export_number);
  void EndEvents();
  // The service manager.
  void TellReady();
  void TellStopping();

  // Changing (daemon_change.cc).
  void Reload();
  // Lets the thread of Run() do it; false if the daemon has ended.
  bool RunOnMain(absl::FunctionRef<void()> work);
  void DoWork();
  control::ResizeReply ChangeSize(const control::ResizeRequest& request);
  control::ApplyReply Change(const control::ApplyRequest& request);
  absl::Status ChangeTo(const config::Source& source, bool dry_run,
                        control::ApplyReply* reply);
  absl::Status CarryOut(const config::Plan& plan, const config::Change& change,
                        control::ApplyReply* reply);
  // What clients of exports that go have mapped and written comes here first.
  void SettleRemoved(const config::Change& change);
  void CutOffRemoved(const std::vector<int>& removed);
  // Groups that are new, before the nodes that name them; the others once all
  // is done. A limit that was checked cannot fail.
  void SetNewGroups(const config::Change& change);
  void DropNewGroups(const config::Change& change);
  void SetOtherGroups(const config::Change& change);
  // Those whose mounts somebody has taken away.
  void DropGone();
  void ForgetExport(int number);

  // Ending (daemon_end.cc).
  // False if it was refused: nothing has changed.
  bool EndPlainly();
  void EndByForce();
  bool FindUsers(control::ShutdownReply* refusal) const;
  void Answer(const control::ShutdownReply& reply);
  void Refuse(absl::string_view error, control::ExportOutcome::Result result);
  // False if the deadline has passed first.
  bool Await(config::Pending<absl::Status>* pending, absl::Status* result);
  // What clients have written and we have not seen comes here now: the pages of
  // mappings. Those that data passes through to are cut off.
  void SettleClients();
  // For one of them, on a thread that may block; null: there is nothing to do.
  std::function<absl::Status()> SettlerOf(const MountPoint& point) const;
  void AbortStuck();
  bool WaitDisconnected();
  void Close();
  control::ShutdownReply Outcome() const;
  // When to look again, at the latest, at what has no condition to wait for;
  // sets deadline_ when force was asked.
  config::Deadline NextLook();

  const DaemonJob* const job_;
  Startup* const startup_;
  const std::shared_ptr<ThrottleGroups> throttle_groups_ =
      std::make_shared<ThrottleGroups>();
  config::EventHub events_;  // outlives the graphs
  std::unique_ptr<config::LiveGraph> live_;
  std::unique_ptr<Watchdog> watchdog_;  // ends before the loops
  std::unique_ptr<Mounts> mounts_;
  config::Deadline deadline_ = config::Deadline::max();
  // A thread that was given up may still use mounts_, or anything else.
  bool mounts_stuck_ = false;
  bool abandoned_ = false;
  std::map<int, absl::Status> sync_errors_;  // by export

  std::mutex mutex_;
  std::condition_variable changed_;
  // All below is used with mutex_ held.
  Phase phase_ = Phase::kOpening;
  control::StatusReply status_;
  std::map<int, control::ExportStatus> exports_;  // by number
  std::map<int, fuse::Device> shown_;             // by export_number
  bool force_ = false;
  bool reload_ = false;
  bool sweep_ = false;
  // What the thread of Run() is to do; who wants that waits for the one before.
  const absl::FunctionRef<void()>* work_ = nullptr;
  bool worked_ = false;
  proto::Config config_;  // what is live
  std::string folder_of_config_;
  uint64_t generation_ = 1;  // of it
  std::set<int> disconnected_;
  std::set<int> told_added_;
  // Requests to end are numbered; those up to answered_ got reply_. All got it
  // once that is kAllAsked.
  int asked_ = 0;
  static constexpr int kAllAsked = std::numeric_limits<int>::max();
  int answered_ = 0;
  control::ShutdownReply reply_;

  // Taken before mutex_.
  std::mutex stats_mutex_;
  config::StatsCollector stats_;  // used with stats_mutex_ held
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_DAEMON_H_
