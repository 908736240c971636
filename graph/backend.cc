#include "graph/backend.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "graph/graph.h"
#include "graph/permissions.h"
#include "graph/status.h"

namespace bgfs {
namespace {

// The node and every backing layer below it, each once. A driver tells what its
// own layer takes, its file included; but the file may be an overlay itself.
std::vector<const Node*> LayersOf(const Node& top) {
  std::vector<const Node*> layers = {&top};
  std::vector<const Node*> left = {&top};
  absl::flat_hash_set<const Node*> seen = {&top};
  while (!left.empty()) {
    const Node* node = left.back();
    left.pop_back();
    for (const auto& child : node->children()) {
      const Node* below = &child->node();
      if (!seen.insert(below).second) continue;
      left.push_back(below);
      if (child->role() == ChildRole::kBacking) layers.push_back(below);
    }
  }
  return layers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> Backend::Create(
    std::string user, Node* node, PermissionSet permissions) {
  std::unique_ptr<Backend> backend(new Backend(std::make_unique<Child>(
      "root", ChildRole::kRoot, nullptr, std::move(user), node)));
  node->parents_.push_back(backend->root_.get());
  node->backends_.push_back(backend.get());
  backend->gate_closed_ = node->drains_;
  absl::Status status =
      PermissionUpdate::SetRoot(backend->root_.get(), permissions);
  if (!status.ok()) return status;
  return backend;
}

Backend::~Backend() {
  BGFS_CHECK(in_flight_.count() == 0 && parked_.empty());
  PermissionUpdate::Detach(root_.get());
  Node& node = root_->node();
  node.parents_.erase(
      std::find(node.parents_.begin(), node.parents_.end(), root_.get()));
  node.backends_.erase(
      std::find(node.backends_.begin(), node.backends_.end(), this));
}

void Backend::OpenGate() {
  BGFS_CHECK(gate_closed_ > 0);
  if (--gate_closed_ == 0) parked_.WakeAll();
}

// Whoever is refused was parked until then.
Task<IoStatus> Backend::PassGate() {
  co_await WaitAtGate(/*refusable=*/true);
  co_return refusal_ == 0 ? IoStatus() : IoError(refusal_);
}

Task<void> Backend::WaitAtGate(bool refusable) {
  if (gate_closed_ == 0) co_return;
  const int64_t parked_ns = home().NowNs();
  ++statistics_.parked.now;
  while (gate_closed_ > 0 && !(refusable && refusal_ != 0)) {
    co_await parked_.Wait();
  }
  statistics_.parked.LetIn(home().NowNs() - parked_ns);
}

void Backend::Refuse(int error) {
  refusal_ = error;
  parked_.WakeAll();
}

IoStatus Backend::Ended(BackendStatistics::Timed* kind, int64_t begun_ns,
                        int64_t bytes, IoStatus status) {
  kind->Count(bytes, status);
  kind->latency_ns.Add(home().NowNs() - begun_ns);
  return status;
}

Task<IoStatus> Backend::Read(int64_t offset, IoView data, RequestFlags flags) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(), Read(offset, data, flags));
  }
  const int64_t begun_ns = home().RecentNs();
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  IoStatus status = IoError(EPERM);
  if ((flags & kCopyOnRead) == 0 || MayWrite(kUnchanged)) {
    status = co_await root_->Read(nullptr, offset, data, flags);
  }
  co_return Ended(&statistics_.reads, begun_ns, data.size(), status);
}

Task<IoStatus> Backend::Write(int64_t offset, IoView data, RequestFlags flags) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(), Write(offset, data, flags));
  }
  const int64_t begun_ns = home().RecentNs();
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  IoStatus status = IoError(EPERM);
  if (MayWrite(flags)) {
    if (writethrough_) flags |= kFua;
    status = co_await root_->Write(nullptr, offset, data, flags);
  }
  co_return Ended(&statistics_.writes, begun_ns, data.size(), status);
}

Task<IoStatus> Backend::Zero(int64_t offset, int64_t bytes,
                             RequestFlags flags) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(), Zero(offset, bytes, flags));
  }
  const int64_t begun_ns = home().RecentNs();
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  IoStatus status = IoError(EPERM);
  if (MayWrite(flags)) {
    if (writethrough_) flags |= kFua;
    status = co_await root_->Zero(nullptr, offset, bytes, flags);
  }
  co_return Ended(&statistics_.zeros, begun_ns, bytes, status);
}

Task<IoStatus> Backend::Discard(int64_t offset, int64_t bytes) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(), Discard(offset, bytes));
  }
  const int64_t begun_ns = home().RecentNs();
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  IoStatus status = IoError(EPERM);
  if (writable()) status = co_await root_->Discard(nullptr, offset, bytes);
  co_return Ended(&statistics_.discards, begun_ns, bytes, status);
}

Task<IoStatus> Backend::Reserve(int64_t offset, int64_t bytes) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(), Reserve(offset, bytes));
  }
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  if (!writable()) co_return IoError(EPERM);
  co_return co_await root_->Reserve(nullptr, offset, bytes);
}

Task<IoStatus> Backend::Truncate(int64_t size_bytes, bool exact,
                                 Preallocation preallocation) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(),
                             Truncate(size_bytes, exact, preallocation));
  }
  const int64_t begun_ns = home().RecentNs();
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  IoStatus status = IoError(EPERM);
  if (resizable()) {
    status =
        co_await root_->Truncate(nullptr, size_bytes, exact, preallocation);
    if (status.ok() && writethrough_) status = co_await root_->Flush();
  }
  co_return Ended(&statistics_.truncates, begun_ns, 0, status);
}

Task<IoStatus> Backend::Flush() {
  if (!home().IsCurrent()) co_return co_await RunOn(home(), Flush());
  const int64_t begun_ns = home().RecentNs();
  co_await WaitAtGate(/*refusable=*/false);
  const auto entered = Enter();
  const IoStatus status = co_await root_->Flush();
  co_return Ended(&statistics_.flushes, begun_ns, 0, status);
}

// What has the bytes of one file has one child at most.
void Backend::LetBypass() {
  const std::string why =
      absl::StrCat("clients of ", root_->Describe(), " use its file directly");
  for (Child* edge = root_.get();;) {
    edge->Freeze(why);
    Node& below = edge->node();
    below.bypassed_ = true;
    if (below.children().empty()) return;
    edge = below.children().front().get();
  }
}

Task<IoResult<FileInfo>> Backend::Look() {
  if (!home().IsCurrent()) co_return co_await RunOn(home(), Look());
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  co_return co_await root_->Look(nullptr);
}

Task<IoResult<BlockStatus>> Backend::Status(int64_t offset, int64_t bytes) {
  if (!home().IsCurrent()) {
    co_return co_await RunOn(home(), Status(offset, bytes));
  }
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  co_return co_await StatusOfChain(*root_, nullptr, offset, bytes);
}

Task<IoResult<int64_t>> Backend::AllocatedBytes() {
  if (!home().IsCurrent()) co_return co_await RunOn(home(), AllocatedBytes());
  if (gate_closed()) BGFS_CO_TRY(co_await PassGate());
  const auto entered = Enter();
  int64_t total = 0;
  for (const Node* layer : LayersOf(node())) {
    auto bytes = co_await layer->driver().AllocatedBytes();
    if (!bytes.ok()) co_return bytes;
    total += *bytes;
  }
  co_return total;
}

}  // namespace bgfs
