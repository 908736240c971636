#include "config/cli/daemon.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "config/cli/signals.h"
#include "config/cli/version.h"
#include "config/diagnostic.h"
#include "config/shared_bases.h"
#include "drivers/create.h"
#include "fuse/fuse_export.h"
#include "graph/async/make_loop.h"

namespace bgfs::cli {
namespace {

// How long Status and Stats wait for all homes together: one hardly ever
// blocks, but the machine may be busy.
constexpr auto kLearnLimit = std::chrono::milliseconds(200);

// How often it is asked whether somebody still waits for the end.
constexpr auto kGivenUpEvery = std::chrono::milliseconds(200);

struct Learned {
  int64_t size_bytes = -1;  // negative where it is ending
  std::string transport;
  fuse::Agreement agreement;
};

Task<Learned> LearnOf(BlockExport* item) {
  if (item->shutting_down()) co_return Learned();
  // Only fuse exports are made (MakeFactories).
  const auto* fuse = static_cast<const fuse::FuseExport*>(item);
  Backend& backend = item->backend();
  Learned learned{backend.size(), std::string(fuse->transport()),
                  fuse->agreement()};
  // Clients may have made it longer, and told nobody. The backend stays as long
  // as something is in flight on it.
  if (backend.node().bypassed()) {
    const IoResult<FileInfo> seen = co_await backend.Look();
    if (seen.ok()) learned.size_bytes = seen->size;
  }
  co_return learned;
}

// The step outlives the task, the context need not.
Task<absl::StatusOr<Node*>> OpenStep(Graph* graph, const config::OpenNode& step,
                                     OpenContext context) {
  context.copies = step.copies;
  context.named_copies = step.named_copies;
  co_return co_await OpenNode(*graph, step.node, context);
}

// As config::FindFiles, on a loop that is made for the first look.
absl::StatusOr<std::vector<config::NamedFile>> FindFiles(
    const std::vector<proto::Node>& nodes, const OpenContext& context,
    std::unique_ptr<HostLoop>* loop) {
  if (*loop == nullptr) {
    absl::StatusOr<std::unique_ptr<HostLoop>> made = MakeLoop("bgfs-bases");
    if (!made.ok()) return made.status();
    *loop = *std::move(made);
  }
  const auto found =
      BlockOn(**loop, FindHostFiles(loop->get(), nodes, context));
  if (!found.ok()) return found.status();
  std::vector<config::NamedFile> files;
  files.reserve(found->size());
  for (const FileIdentity& file : *found) {
    files.push_back({file.name, file.device, file.inode});
  }
  return files;
}

// Another program may write to an image that is opened so.
bool SharesByForce(const config::Plan& plan) {
  for (const config::Step& step : plan.steps) {
    const auto* open = std::get_if<config::OpenNode>(&step);
    if (open != nullptr && open->node.force_share()) return true;
  }
  return false;
}

// Whether FUSE over io_uring works is known only with a ring.
absl::StatusOr<std::unique_ptr<Loop>> StartHome(
    const std::string& name, fuse::TransportChoice transport) {
  absl::StatusOr<std::unique_ptr<HostLoop>> loop = MakeLoop(name);
  if (!loop.ok()) return loop.status();
  if (transport == fuse::TransportChoice::kUring &&
      (*loop)->body() != "io_uring") {
    return absl::FailedPreconditionError(
        absl::StrCat("--transport=io_uring cannot be had without io_uring (",
                     (*loop)->why_not_uring(), "); leave it out"));
  }
  return *std::move(loop);
}

}  // namespace

ExitStatus RunDaemon(const DaemonJob& job) {
  absl::StatusOr<Startup> startup = Startup::Begin(job.options);
  if (!startup.ok()) return Fail(startup.status());
  Daemon daemon(&job, &*startup);
  return daemon.Run();
}

// The pages of a loop device on our own mount are written through us: a thread
// here that waited for them, because it needs memory, would wait for itself.
// Threads inherit it. Refused without CAP_SYS_RESOURCE.
void Daemon::NeverWaitForOwnPages() { prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

ExitStatus Daemon::Run() {
  NeverWaitForOwnPages();
  SignalThread signals([this](int signal) {
    if (signal == SIGHUP && !job_->config_file.empty()) return AskForReload();
    AskForForce();
  });
  startup_->notifier().Send("STATUS=Opening the images");
  if (absl::Status s = Open(); !s.ok()) return Fail(s);
  auto control = config::ControlServer::Start(this);
  absl::Status shown = control.status();
  if (shown.ok()) shown = Show();
  if (!shown.ok()) {
    Close();
    Answer(Outcome());
    EndEvents();
    return Fail(shown);
  }
  if (!job_->notice.empty()) Note(job_->notice);
  startup_->Ready();
  TellReady();
  ServeUntilEnd();
  const control::ShutdownReply outcome = Outcome();
  Answer(outcome);
  const ExitStatus status = Report(outcome);
  EndEvents();
  control->reset();
  if (!abandoned_ && !mounts_stuck_) return status;
  // Nothing may be destroyed that a disk can still answer to.
  startup_->RemovePidFile();
  _exit(status);
}

void Daemon::AskForForce() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (phase_ == Phase::kOpening) {
    // Nothing is mounted or written; an image that hangs must not keep us.
    startup_->RemovePidFile();
    _exit(kFailed);
  }
  force_ = true;
  changed_.notify_all();
}

void Daemon::Warn(absl::string_view line) {
  const std::string warning = absl::StrCat("warning: ", line);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (phase_ == Phase::kOpening) {
    Note(warning);  // The user still waits for the command.
  } else {
    startup_->log().Write(warning);
  }
}

OpenContext Daemon::ContextOf(const config::Plan& plan) {
  OpenContext context;
  context.implicit_files = plan.implicit_files;
  context.allow_implicit = plan.allow_implicit;
  context.throttle_groups = throttle_groups_;
  context.warn = [this](absl::string_view line) { Warn(line); };
  return context;
}

config::Factories Daemon::MakeFactories(const config::Plan& plan) {
  fuse::FuseExportOptions options;
  options.uid = geteuid();
  options.gid = getegid();
  options.cache_read_only = !SharesByForce(plan);
  options.transport = job_->options.transport;
  options.kernel_mask = job_->options.kernel_mask;

  config::Factories factories;
  factories.observer = &events_;
  factories.start_loop = [transport =
                              options.transport](const std::string& name) {
    return StartHome(name, transport);
  };
  factories.open_node = [context = ContextOf(plan)](
                            bgfs::Graph* graph, const config::OpenNode& step) {
    return OpenStep(graph, step, context);
  };
  factories.make_driver = [context =
                               ContextOf(plan)](const config::OpenNode& step) {
    OpenContext own = context;
    own.copies = step.copies;
    return MakeDriver(step.node, own);
  };
  factories.given_up = [this] {
    const std::lock_guard<std::mutex> lock(mutex_);
    return force_;
  };
  factories.node_options = OptionsOf;
  factories.write_threshold = [](const proto::Node& node) {
    return WriteThresholdOf(node).value_or(0);  // it was checked
  };
  factories.below_changed = [](BlockExport* item) {
    // Only fuse exports are made.
    static_cast<fuse::FuseExport*>(item)->OnBelowChanged();
  };
  factories.make_export = [options, one_file = job_->layout.one_file](
                              const proto::Export& item,
                              std::unique_ptr<Backend> backend) {
    fuse::FuseExportOptions own = options;
    if (one_file) own.file_name = item.id();
    own.mode = item.fuse().mode();
    if (item.fuse().cache() == proto::ReadCache::NONE) {
      own.cache_read_only = false;
    }
    own.passthrough = item.fuse().passthrough();
    if (item.fuse().has_uid()) own.uid = item.fuse().uid();
    if (item.fuse().has_gid()) own.gid = item.fuse().gid();
    return std::make_unique<fuse::FuseExport>(item.id(), std::move(backend),
                                              std::move(own));
  };
  return factories;
}

absl::Status Daemon::JoinSharedBases(config::Plan* plan) {
  const OpenContext context = ContextOf(*plan);
  std::unique_ptr<HostLoop> loop;
  return config::JoinSharedBases(
      [&context, &loop](const std::vector<proto::Node>& nodes) {
        return FindFiles(nodes, context, &loop);
      },
      plan);
}

absl::Status Daemon::SetGroup(const proto::ThrottleGroup& group) {
  const auto limits = ThrottleLimitsOf(group.limits());
  if (!limits.ok()) return limits.status();
  throttle_groups_->Set(group.name(), *limits);
  return absl::OkStatus();
}

absl::Status Daemon::Open() {
  config::Plan plan =
      config::MakePlan(job_->source, [] { return bgfs::Graph::NewNodeName(); });
  plan.allow_implicit.insert(plan.allow_implicit.end(),
                             job_->allow_implicit.begin(),
                             job_->allow_implicit.end());
  absl::Status prepared = JoinSharedBases(&plan);
  if (!prepared.ok()) return prepared;
  for (const proto::ThrottleGroup& group : plan.throttle_groups) {
    if (absl::Status set = SetGroup(group); !set.ok()) return set;
  }
  auto live = config::LiveGraph::Apply(plan, MakeFactories(plan));
  if (!live.ok()) return live.status();
  live_ = *std::move(live);
  mounts_ = std::make_unique<Mounts>(
      live_.get(), job_->layout, [this](int number) { OnDisconnect(number); });
  const std::lock_guard<std::mutex> lock(mutex_);
  phase_ = Phase::kMounting;
  status_.set_version(kVersion);
  status_.set_pid(getpid());
  status_.set_mount_namespace(fuse::MountNamespace());
  status_.set_config_file(Text(job_->config_file));
  config_ = job_->source.config;
  folder_of_config_ = job_->source.folder;
  for (const auto& [number, item] : live_->exports()) NoteExport(number, item);
  return absl::OkStatus();
}

void Daemon::NoteExport(int number, const config::LiveExport& item) {
  control::ExportStatus status;
  status.set_id(Text(item.item.id()));
  status.set_node(Text(item.item.node()));
  status.set_writable(item.item.writable());
  status.set_state(control::ExportStatus::STARTING);
  const auto* home = dynamic_cast<const HostLoop*>(live_->home(item.part));
  status.set_loop(std::string(home->body()));
  status.set_why_not_uring(std::string(home->why_not_uring()));
  exports_[number] = std::move(status);
}

absl::Status Daemon::Show() {
  std::vector<int> all;
  for (const auto& [number, item] : live_->exports()) all.push_back(number);
  if (absl::Status s = mounts_->Mount(all); !s.ok()) return s;
  const std::lock_guard<std::mutex> lock(mutex_);
  NoteMounts();
  phase_ = Phase::kServing;
  return absl::OkStatus();
}

// With mutex_ held.
void Daemon::NoteMounts() {
  const Layout& layout = job_->layout;
  const absl::StatusOr<fuse::Place> folder = fuse::Locate(layout.folder);
  if (folder.ok() && !layout.one_file) status_.set_folder(Text(folder->path));
  for (const MountPoint& point : mounts_->points()) {
    if (!shown_.emplace(point.export_number, point.device).second) continue;
    if (point.export_number == MountPoint::kFolder) {
      status_.set_folder_st_dev(point.place.device);
      continue;
    }
    control::ExportStatus& status = exports_.at(point.export_number);
    status.set_mountpoint(Text(point.file));
    status.set_st_dev(point.place.device);
    status.set_state(control::ExportStatus::SERVING);
    TellAdded(point.export_number);
    std::string line = absl::StrCat("export \"", status.id(), "\" is at ",
                                    status.mountpoint());
    if (!status.why_not_uring().empty()) {
      absl::StrAppend(&line, "; on threads, without io_uring (",
                      status.why_not_uring(), ")");
    }
    startup_->log().Write(line);
  }
}

void Daemon::TellReady() {
  const Notifier& notifier = startup_->notifier();
  const size_t count = live_->plan().exports.size();
  notifier.Send(absl::StrCat("READY=1\nSTATUS=Serving ", count, " export",
                             count == 1 ? "" : "s", " of ",
                             Text(job_->layout.source)));
  if (notifier.watchdog().count() == 0) return;
  std::set<Loop*> homes;
  for (const auto& [number, item] : live_->exports()) {
    homes.insert(live_->home(item.part));
  }
  // A round that comes late is made up for by the next.
  const int64_t period_ns = std::chrono::nanoseconds(notifier.watchdog()) / 4 /
                            std::chrono::nanoseconds(1);
  watchdog_ =
      std::make_unique<Watchdog>(std::vector<Loop*>(homes.begin(), homes.end()),
                                 period_ns, [&notifier] { notifier.Feed(); });
}

void Daemon::TellStopping() {
  startup_->notifier().Send(
      "STOPPING=1\nSTATUS=Ending: what was written goes to the disk");
}

void Daemon::OnDisconnect(int export_number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = exports_.find(export_number);
  if (found != exports_.end()) {
    found->second.set_state(control::ExportStatus::CLOSING);
    TellRemoved(export_number);
  } else if (export_number != MountPoint::kFolder) {
    // It was removed, and its last client has gone.
    sweep_ = true;
    changed_.notify_all();
    return;
  }
  disconnected_.insert(export_number);
  changed_.notify_all();
}

bool Daemon::AllDisconnected() const {
  const auto& points = mounts_->points();
  return std::all_of(points.begin(), points.end(),
                     [this](const MountPoint& point) {
                       return disconnected_.contains(point.export_number);
                     });
}

void Daemon::SetPhase(Phase phase) {
  const std::lock_guard<std::mutex> lock(mutex_);
  phase_ = phase;
}

void Daemon::ServeUntilEnd() {
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] {
      return force_ || asked_ > answered_ || AllDisconnected() || reload_ ||
             sweep_ || (work_ != nullptr && !worked_);
    });
    const bool force = force_;
    const bool gone = AllDisconnected();
    const bool asked = asked_ > answered_;
    const bool reload = std::exchange(reload_, false);
    const bool work = work_ != nullptr && !worked_;
    const bool sweep = std::exchange(sweep_, false);
    lock.unlock();
    if (force) return EndByForce();
    if (gone) return Close();
    if (asked && EndPlainly()) return;
    // Nobody else looks at the graphs meanwhile.
    SetPhase(Phase::kChanging);
    if (sweep) live_->Sweep();
    if (reload) Reload();
    if (work) DoWork();
    SetPhase(Phase::kServing);
  }
}

ExitStatus Daemon::Report(const control::ShutdownReply& outcome) {
  ExitStatus status = kFine;
  for (const control::ExportOutcome& item : outcome.exports()) {
    if (item.result() == control::ExportOutcome::DURABLE) continue;
    startup_->log().Write(item.error());
    status = kFailed;
  }
  if (status == kFine) startup_->log().Write("ended; everything is durable");
  return status;
}

control::StatusReply Daemon::Status() {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Ending begins with this mutex, and only then posts to the homes: what is
  // asked here runs before an export can be gone.
  if (phase_ == Phase::kServing) Learn();
  control::StatusReply reply = status_;
  for (const auto& [number, item] : exports_) {
    control::ExportStatus* status = reply.add_exports();
    *status = item;
    const auto device = shown_.find(number);
    if (device == shown_.end() || !device->second.IsConnected()) {
      status->set_st_dev(0);
    }
  }
  const auto folder = shown_.find(MountPoint::kFolder);
  if (folder != shown_.end() && !folder->second.IsConnected()) {
    reply.set_folder_st_dev(0);
  }
  return reply;
}

control::StatsReply Daemon::Stats() {
  const std::lock_guard<std::mutex> one_at_a_time(stats_mutex_);
  {
    // As in Status(); but nobody is kept from it while homes answer.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (phase_ == Phase::kServing) {
      stats_.Ask(*live_);
    } else {
      stats_.MarkStale();
    }
  }
  control::StatsReply reply =
      stats_.WaitUntil(std::chrono::steady_clock::now() + kLearnLimit);
  reply.set_version(kVersion);
  reply.set_pid(getpid());
  return reply;
}

void Daemon::Learn() {
  std::map<int, config::Pending<Learned>> asked;
  for (const auto& [number, item] : live_->exports()) {
    asked.emplace(
        number, config::Pending<Learned>::Start(
                    live_->home(item.part), LearnOf(item.block_export.get())));
  }
  const auto deadline = std::chrono::steady_clock::now() + kLearnLimit;
  for (auto& [number, pending] : asked) {
    const std::optional<Learned> learned = pending.WaitUntil(deadline);
    if (!learned.has_value() || learned->size_bytes < 0) continue;
    control::ExportStatus* item = &exports_.at(number);
    item->set_size_bytes(static_cast<uint64_t>(learned->size_bytes));
    item->set_transport(learned->transport);
    const fuse::Agreement& agreement = learned->agreement;
    item->set_fuse_minor(agreement.minor);
    item->set_fuse_init_flags(agreement.init_flags);
    item->set_parallel_direct_writes(agreement.ParallelDirectWrites());
  }
}

control::ShutdownReply Daemon::Shutdown(bool force) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (force) force_ = true;
  const int number = ++asked_;
  changed_.notify_all();
  changed_.wait(lock, [this, number] { return answered_ >= number; });
  return reply_;
}

std::optional<control::ShutdownReply> Daemon::WaitEnd(
    absl::FunctionRef<bool()> given_up) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto ended = [this] { return answered_ == kAllAsked; };
  while (!changed_.wait_for(lock, kGivenUpEvery, ended)) {
    if (given_up()) return std::nullopt;
  }
  return reply_;
}

}  // namespace bgfs::cli
