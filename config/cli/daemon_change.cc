// How a running daemon becomes what another configuration says: read, compared,
// prepared, shown, done. Whatever fails before the last step leaves all as it
// was.

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/cli/daemon.h"
#include "config/diagnostic.h"
#include "config/load.h"
#include "config/validate.h"

namespace bgfs::cli {
namespace {

using Clock = std::chrono::steady_clock;

// How long requests that are under way may take to end.
constexpr int64_t kDrainLimitNs = int64_t{10} * 1000 * 1000 * 1000;
// How long what was removed may take to end before the answer says so.
constexpr auto kFinishLimit = std::chrono::seconds(10);

}  // namespace

void Daemon::AskForReload() {
  const std::lock_guard<std::mutex> lock(mutex_);
  reload_ = true;
  changed_.notify_all();
}

bool Daemon::RunOnMain(absl::FunctionRef<void()> work) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto ended = [this] { return answered_ == kAllAsked; };
  changed_.wait(lock, [&] { return work_ == nullptr || ended(); });
  if (ended()) return false;
  work_ = &work;
  worked_ = false;
  changed_.notify_all();
  changed_.wait(lock, [&] { return worked_ || ended(); });
  const bool done = worked_;
  work_ = nullptr;
  changed_.notify_all();
  return done;
}

void Daemon::DoWork() {
  const absl::FunctionRef<void()>* work = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work = work_;
  }
  (*work)();
  const std::lock_guard<std::mutex> lock(mutex_);
  worked_ = true;
  changed_.notify_all();
}

control::ApplyReply Daemon::Apply(const control::ApplyRequest& request) {
  control::ApplyReply reply;
  const bool done = RunOnMain([&] { reply = Change(request); });
  if (!done) reply.add_errors("the daemon has ended");
  return reply;
}

control::ResizeReply Daemon::Resize(const control::ResizeRequest& request) {
  control::ResizeReply reply;
  const bool done = RunOnMain([&] { reply = ChangeSize(request); });
  if (!done) reply.set_error("the daemon has ended");
  return reply;
}

control::ResizeReply Daemon::ChangeSize(const control::ResizeRequest& request) {
  control::ResizeReply reply;
  if (request.size_bytes() > static_cast<uint64_t>(kMaxNodeBytes)) {
    reply.set_error(
        absl::StrCat("a node has at most ", kMaxNodeBytes, " bytes"));
    return reply;
  }
  for (const auto& [number, item] : live_->exports()) {
    if (Text(item.item.id()) != request.id()) continue;
    const absl::StatusOr<int64_t> was = live_->Resize(
        number, static_cast<int64_t>(request.size_bytes()), request.shrink(),
        MakeFactories(config::Plan()), kDrainLimitNs);
    if (was.ok()) {
      reply.set_was_bytes(static_cast<uint64_t>(*was));
    } else {
      reply.set_error(Text(was.status().message()));
    }
    return reply;
  }
  reply.set_error(
      absl::StrCat("no export ", config::Quote(request.id()), " any more"));
  return reply;
}

control::ConfigReply Daemon::Config() {
  const std::lock_guard<std::mutex> lock(mutex_);
  control::ConfigReply reply;
  google::protobuf::TextFormat::PrintToString(config_, reply.mutable_config());
  reply.set_folder(folder_of_config_);
  reply.set_generation(generation_);
  return reply;
}

void Daemon::Reload() {
  const config::Source source = config::LoadFile(job_->config_file);
  control::ApplyReply reply;
  if (absl::Status s = ChangeTo(source, /*dry_run=*/false, &reply); !s.ok()) {
    reply.add_errors(Text(s.message()));
  }
  for (const std::string& line : reply.steps()) startup_->log().Write(line);
  for (const std::string& line : reply.warnings()) startup_->log().Write(line);
  for (const std::string& line : reply.errors()) {
    startup_->log().Write(absl::StrCat("nothing was changed: ", line));
  }
  if (reply.steps().empty() && reply.errors().empty()) {
    startup_->log().Write("the configuration says what is live already");
  }
}

control::ApplyReply Daemon::Change(const control::ApplyRequest& request) {
  control::ApplyReply reply;
  if (request.generation() != 0 && request.generation() != generation_) {
    reply.add_errors(
        "somebody else has changed the configuration meanwhile; try again");
    return reply;
  }
  const config::Source source =
      config::LoadText(request.config(), request.file(), request.folder());
  absl::Status status = ChangeTo(source, request.dry_run(), &reply);
  if (!status.ok()) {
    reply.add_errors(Text(status.message()));
    reply.clear_steps();
  }
  return reply;
}

absl::Status Daemon::ChangeTo(const config::Source& source, bool dry_run,
                              control::ApplyReply* reply) {
  const std::vector<config::Diagnostic> mistakes = config::Validate(source);
  for (const config::Diagnostic& mistake : mistakes) {
    reply->add_errors(Text(config::Format(source.file, mistake)));
  }
  if (!mistakes.empty()) return absl::OkStatus();
  if (absl::Status s = CheckFolder(source.config, job_->layout.folder);
      !s.ok()) {
    return s;
  }
  DropGone();
  config::Plan plan =
      config::MakePlan(source, [] { return bgfs::Graph::NewNodeName(); });
  plan.allow_implicit.insert(plan.allow_implicit.end(),
                             job_->allow_implicit.begin(),
                             job_->allow_implicit.end());
  if (absl::Status s = JoinSharedBases(&plan); !s.ok()) {
    return s;
  }
  const absl::StatusOr<config::Change> change =
      config::Compare(live_->plan(), plan);
  if (!change.ok()) return change.status();
  for (const std::string& line : config::Describe(*change)) {
    reply->add_steps(Text(line));
  }
  if (dry_run) return absl::OkStatus();
  if (absl::Status s = CarryOut(plan, *change, reply); !s.ok()) return s;
  const std::lock_guard<std::mutex> lock(mutex_);
  config_ = source.config;
  folder_of_config_ = source.folder;
  ++generation_;
  return absl::OkStatus();
}

absl::Status Daemon::CarryOut(const config::Plan& plan,
                              const config::Change& change,
                              control::ApplyReply* reply) {
  watchdog_ = nullptr;  // homes may come and go
  SettleRemoved(change);
  SetNewGroups(change);
  const config::Factories factories = MakeFactories(plan);
  const auto start = Clock::now();
  auto prepared = live_->Prepare(change, factories, kDrainLimitNs);
  absl::Status status = prepared.status();
  std::unique_ptr<config::LiveGraph::Update> update;
  if (prepared.ok()) {
    update = *std::move(prepared);
    status = mounts_->Mount(update->added());
  }
  if (!status.ok()) {
    if (update != nullptr) live_->Abort(std::move(update));
    DropNewGroups(change);
  } else {
    live_->Commit(update.get(), factories);
    const std::chrono::duration<double, std::milli> pause =
        Clock::now() - start;
    reply->set_pause_ms(pause.count());
    CutOffRemoved(update->removed());
    mounts_->Detach(update->removed());
    const absl::Status ended =
        live_->Finish(std::move(update), Clock::now() + kFinishLimit);
    if (!ended.ok()) reply->add_warnings(Text(ended.message()));
    SetOtherGroups(change);
  }
  std::vector<int> gone;
  for (const auto& [number, item] : exports_) {
    if (!live_->exports().contains(number)) gone.push_back(number);
  }
  for (const int number : gone) ForgetExport(number);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [number, item] : live_->exports()) {
    const auto shown = exports_.find(number);
    if (shown == exports_.end()) {
      NoteExport(number, item);
    } else {
      shown->second.set_node(Text(item.item.node()));
    }
  }
  NoteMounts();
  TellReady();
  return status;
}

void Daemon::ForgetExport(int number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  TellRemoved(number);
  exports_.erase(number);
  shown_.erase(number);
  disconnected_.erase(number);
}

void Daemon::DropGone() {
  std::vector<int> gone;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const int number : disconnected_) {
      if (number != MountPoint::kFolder) gone.push_back(number);
    }
  }
  for (const int number : gone) {
    mounts_->Detach({number});
    // What became of it was told when it ended.
    live_->Reap(number, Clock::now() + kFinishLimit).IgnoreError();
    if (!live_->exports().contains(number)) ForgetExport(number);
  }
}

// Those that data passes through to.
void Daemon::CutOffRemoved(const std::vector<int>& removed) {
  std::vector<config::Pending<absl::Status>> cutting;
  for (const MountPoint& point : mounts_->points()) {
    if (std::find(removed.begin(), removed.end(), point.export_number) ==
            removed.end() ||
        !live_->exports().at(point.export_number).item.fuse().passthrough()) {
      continue;
    }
    cutting.push_back(config::Pending<absl::Status>::Call(SettlerOf(point)));
  }
  const auto deadline = Clock::now() + kFinishLimit;
  for (auto& pending : cutting) pending.WaitUntil(deadline);
}

void Daemon::SetNewGroups(const config::Change& change) {
  for (const auto& group : change.groups) {
    if (group.was.has_name()) continue;
    SetGroup(group.wanted).IgnoreError();
  }
}

void Daemon::DropNewGroups(const config::Change& change) {
  for (const auto& group : change.groups) {
    if (!group.was.has_name()) throttle_groups_->Remove(group.wanted.name());
  }
}

void Daemon::SetOtherGroups(const config::Change& change) {
  for (const auto& group : change.groups) {
    if (!group.wanted.has_name()) {
      throttle_groups_->Remove(group.was.name());
    } else if (group.was.has_name()) {
      SetGroup(group.wanted).IgnoreError();
    }
  }
}

// Those that data passes through to are cut off once nothing can fail any more.
void Daemon::SettleRemoved(const config::Change& change) {
  std::vector<config::Pending<absl::Status>> settling;
  for (const MountPoint& point : mounts_->points()) {
    if (point.export_number == MountPoint::kFolder) continue;
    const proto::Export& item = live_->exports().at(point.export_number).item;
    const bool goes = std::any_of(change.removed.begin(), change.removed.end(),
                                  [&item](const config::AddExport& removed) {
                                    return removed.item.id() == item.id();
                                  });
    if (!goes || item.fuse().passthrough()) continue;
    std::function<absl::Status()> settle = SettlerOf(point);
    if (settle == nullptr) continue;
    settling.push_back(config::Pending<absl::Status>::Call(std::move(settle)));
  }
  const auto deadline = Clock::now() + kFinishLimit;
  for (auto& pending : settling) pending.WaitUntil(deadline);
}

}  // namespace bgfs::cli
