#include "fuse/fuse_export.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fuse/ring_support.h"
#include "graph/async/check.h"
#include "graph/host_bytes.h"

namespace bgfs::fuse {
namespace {

// Nobody makes names in it.
constexpr mode_t kFolderMode = 0555;

bool ReadOnlyThroughout(const Node& node) {
  if (!node.read_only()) return false;
  for (const auto& child : node.children()) {
    if (!ReadOnlyThroughout(child->node())) return false;
  }
  return true;
}

}  // namespace

absl::Status FuseExport::Serve(Device device,
                               absl::AnyInvocable<void()> on_disconnect) {
  BGFS_CHECK(connection_ == nullptr && !shutting_down());
  if (options_.passthrough) {
    if (absl::Status s = PreparePassthrough(device); !s.ok()) return s;
  }
  auto transport =
      MakeTransport(&backend().home(), std::move(device), options_.transport);
  if (!transport.ok()) return transport.status();
  const bool in_folder = !options_.file_name.empty();
  ExportFile::Options file;
  file.mode = options_.mode;
  file.uid = options_.uid;
  file.gid = options_.gid;
  file.seek_limit_ns = options_.seek_limit_ns;
  file.cached = MayBeCached();
  file.passthrough = passthrough_.get();
  connection_ =
      std::make_unique<Connection>(*std::move(transport), options_.kernel_mask,
                                   options_.passthrough ? kInitPassthrough : 0);
  file_ = std::make_unique<ExportFile>(
      in_folder ? kRootId + 1 : kRootId, file, &backend(),
      &connection_->agreement(), [this] { Spawn(Invalidate(/*data=*/false)); });
  connection_->AddInode(file_.get());
  if (in_folder) {
    folder_ = std::make_unique<Folder>(kFolderMode, options_.uid, options_.gid);
    folder_->Add(options_.file_name, file_.get());
    connection_->AddInode(folder_.get());
  }
  backend().SetOnResize([this] { file_->OnResize(); });
  Ref();
  connected_ = true;
  linked_ = true;
  connection_->Start([this, told = std::move(on_disconnect)]() mutable {
    linked_ = false;
    LetGo();
    told();
  });
  return absl::OkStatus();
}

absl::Status FuseExport::PreparePassthrough(const Device& device) {
  HostBytes* const bytes = backend().node().driver().host_bytes();
  if (bytes == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "export \"", id(), "\": passthrough is for a regular file, and node \"",
        backend().node().name(), "\" does not show one; leave it out"));
  }
  passthrough_ = std::make_unique<Passthrough>(device, bytes->descriptor());
  if (backend().writable()) backend().LetBypass();
  return absl::OkStatus();
}

Task<absl::Status> FuseExport::WaitSettled() {
  co_await connection_->WaitSettled();
  if (passthrough_ != nullptr) {
    const auto& id = passthrough_->BackingId(connection_->agreement());
    if (!id.ok()) co_return id.status();
  }
  if (options_.transport != TransportChoice::kUring ||
      connection_->transport().name() == kUringName) {
    co_return absl::OkStatus();
  }
  co_return RingRefused({"the kernel refused it for this mount",
                         "bgfs doctor and the kernel's log may say why"});
}

absl::string_view FuseExport::transport() const {
  return connection_ == nullptr ? "" : connection_->transport().name();
}

Agreement FuseExport::agreement() const {
  return connection_ == nullptr ? Agreement() : connection_->agreement();
}

void FuseExport::OnShutdown() {
  if (connection_ == nullptr) return;
  connection_->Refuse(ESHUTDOWN);
  LetGo();
}

void FuseExport::LetGo() {
  if (!connected_) return;
  connected_ = false;
  Spawn(UnrefWhenIdle());
}

Task<void> FuseExport::UnrefWhenIdle() {
  co_await connection_->in_flight().WaitIdle();
  Unref();
}

Task<void> FuseExport::OnLastUnref() {
  if (connection_ == nullptr) co_return;
  backend().SetOnResize(nullptr);
  if (keep_clients()) {
    // Or they would go on reading what the kernel has of it.
    co_await Invalidate(/*data=*/true);
  } else {
    co_await connection_->Stop();
  }
}

Task<void> FuseExport::EndClients() {
  if (connection_ != nullptr && keep_clients()) co_await connection_->Stop();
}

bool FuseExport::MayBeCached() const {
  return options_.cache_read_only && !backend().writable() &&
         ReadOnlyThroughout(backend().node());
}

void FuseExport::OnBelowChanged() {
  if (connection_ == nullptr || shutting_down()) return;
  file_->SetCached(MayBeCached());
  Spawn(Invalidate(/*data=*/true));
}

Task<void> FuseExport::Invalidate(bool data) {
  const IoStatus told =
      co_await connection_->transport().Invalidate(file_->node_id(), data);
  told.Ignore();  // ENOENT: the kernel had not looked yet
}

}  // namespace bgfs::fuse
