// An export of the type "fuse": a backend shown as one regular file on a FUSE
// connection of its own, served at the home of the backend.
//
//   mounted at a folder:  root = Folder ── "disk.raw" = ExportFile
//   mounted at a file:    root = ExportFile
//
// The connection is the client that holds the export: it gives up its reference
// when the kernel ends it (umount), or when the export is told to shut down and
// what was under way has ended; until it is closed every request then gets
// ESHUTDOWN.
#ifndef BGFS_FUSE_FUSE_EXPORT_H_
#define BGFS_FUSE_FUSE_EXPORT_H_

#include <sys/types.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fuse/connection.h"
#include "fuse/device.h"
#include "fuse/export_file.h"
#include "fuse/folder.h"
#include "fuse/make_transport.h"
#include "fuse/negotiate.h"
#include "fuse/passthrough.h"
#include "graph/export.h"

namespace bgfs::fuse {

struct FuseExportOptions {
  // The name in the mounted folder; empty where a file is the mount point.
  std::string file_name;
  mode_t mode = 0600;
  uid_t uid = geteuid();
  gid_t gid = getegid();
  // Lets the kernel keep what it has read, where nothing below can change. Not
  // for images that another program may write (force_share).
  bool cache_read_only = true;
  // The kernel carries the data between clients and the host's file. Where the
  // node has HostBytes, and nobody else uses it if the export is writable.
  bool passthrough = false;
  int64_t seek_limit_ns = ExportFile::Options().seek_limit_ns;
  KernelMask kernel_mask;
  TransportChoice transport = TransportChoice::kAuto;
};

class FuseExport final : public BlockExport {
 public:
  FuseExport(std::string id, std::unique_ptr<Backend> backend,
             FuseExportOptions options)
      : BlockExport(std::move(id), std::move(backend)),
        options_(std::move(options)) {}

  absl::string_view type() const override { return "fuse"; }
  // At home. Empty before Serve().
  absl::string_view transport() const;
  // At home: what INIT came to. Zeros before WaitSettled() has returned.
  Agreement agreement() const;

  // At home: serves the mounted connection (mount.h). Once, and not after
  // RequestShutdown(). `on_disconnect` is called at home when the kernel has
  // ended the connection; it must not wait, and may call RequestShutdown(). An
  // error, of MakeTransport() or for a node that passthrough is not for:
  // nothing is served, and the device is closed.
  absl::Status Serve(Device device, absl::AnyInvocable<void()> on_disconnect);

  // At home, after Serve(): waits until transport() stays as it is.
  // An error if that is not what was insisted on, or if the kernel passes
  // nothing through that should be.
  Task<absl::Status> WaitSettled();

  bool has_clients() const override { return linked_; }
  Task<void> EndClients() override;

  // At home: the graph below has changed; what the kernel has of the file goes.
  void OnBelowChanged();

  // At home, after Serve(), with passthrough: ExportFile::CutOff().
  void CutOff() { file_->CutOff(); }

 private:
  void OnShutdown() override;
  Task<void> OnLastUnref() override;

  void LetGo();
  Task<void> UnrefWhenIdle();
  bool MayBeCached() const;
  Task<void> Invalidate(bool data);

  absl::Status PreparePassthrough(const Device& device);

  const FuseExportOptions options_;
  std::unique_ptr<Passthrough> passthrough_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<ExportFile> file_;
  std::unique_ptr<Folder> folder_;
  bool connected_ = false;  // and holds a reference
  bool linked_ = false;     // the kernel has not ended the connection
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_FUSE_EXPORT_H_
