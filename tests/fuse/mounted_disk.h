// A real mount of an export over a TestDriver: loop, graph, backend, export and
// connection as the daemon has them, in this process.
#ifndef BGFS_TESTS_FUSE_MOUNTED_DISK_H_
#define BGFS_TESTS_FUSE_MOUNTED_DISK_H_

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "fuse/fuse_export.h"
#include "fuse/mount.h"
#include "graph/async/make_loop.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "tests/fuse/temp_folder.h"
#include "tests/fuse/test_driver.h"

namespace bgfs::fuse {

struct DiskOptions {
  int64_t size = 1 << 20;
  bool writable = true;
  bool resizable = false;
  bool in_folder = false;
  std::string target;  // a file to mount over; one of its own if empty
  FuseExportOptions fuse;
};

class MountedDisk {
 public:
  // $BGFS_TRANSPORT says how it is carried.
  explicit MountedDisk(DiskOptions options) : options_(std::move(options)) {
    options_.fuse.transport =
        TestsUring() ? TransportChoice::kUring : TransportChoice::kDev;
    auto loop = MakeLoop("test-home");
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    auto driver = std::make_unique<TestDriver>(options_.size);
    driver_ = driver.get();
    BlockOn(*loop_, Open(std::move(driver)));
    std::string target = options_.target;
    if (target.empty()) {
      target = options_.in_folder ? temp_.MakeFolder() : temp_.MakeFile();
    }
    path_ = options_.in_folder ? target + "/disk.raw" : target;
    MountOptions mount;
    mount.read_only = false;
    auto mounted = Mount(target, mount);
    EXPECT_TRUE(mounted.ok()) << mounted.status();
    place_ = mounted->place;
    BlockOn(*loop_, Serve(std::move(mounted->device)));
    watchdog_ = std::make_unique<Watchdog>(target);
  }
  ~MountedDisk() {
    if (!closed_) {
      if (!disconnected_) {
        EXPECT_TRUE(Unmount(place_, UnmountMode::kPlain).ok());
      }
      EXPECT_TRUE(Close().ok());
    }
    BlockOn(*loop_, CloseGraph());
  }

  // Tells the export to shut down, and waits until it has.
  absl::Status Close() {
    closed_ = true;
    return BlockOn(*loop_, ShutDown());
  }
  void RequestShutdown() { BlockOn(*loop_, Ask()); }
  void Release() { BlockOn(*loop_, ReleaseDriver()); }
  IoStatus TruncateInside(int64_t size) {
    return BlockOn(*loop_, export_->backend().Truncate(size, true));
  }

  const std::string& path() const { return path_; }
  std::string transport() { return BlockOn(*loop_, AskTransport()); }
  const Place& place() const { return place_; }
  TestDriver& driver() { return *driver_; }
  bool disconnected() const { return disconnected_; }

 private:
  Task<void> Open(std::unique_ptr<TestDriver> driver) {
    graph_ = std::make_unique<Graph>(loop_.get());
    NodeOptions node_options;
    node_options.name = "disk";
    node_options.unmap = true;
    node_options.read_only = !options_.writable;
    Node* node = graph_->AddNode(node_options, std::move(driver));
    node->SetSize(options_.size);
    PermissionSet permissions;
    permissions.used = kConsistentRead;
    if (options_.writable) permissions.used |= kWrite;
    if (options_.resizable) permissions.used |= kResize;
    auto backend = Backend::Create("export disk", node, permissions);
    EXPECT_TRUE(backend.ok()) << backend.status();
    if (options_.in_folder) options_.fuse.file_name = "disk.raw";
    export_ = std::make_unique<FuseExport>("disk", *std::move(backend),
                                           options_.fuse);
    co_return;
  }
  Task<void> Serve(Device device) {
    const absl::Status served =
        export_->Serve(std::move(device), [this] { disconnected_ = true; });
    EXPECT_TRUE(served.ok()) << served;
    const absl::Status settled = co_await export_->WaitSettled();
    EXPECT_TRUE(settled.ok()) << settled;
  }
  Task<absl::Status> ShutDown() {
    export_->RequestShutdown();
    co_return co_await export_->WaitClosed();
  }
  Task<void> Ask() {
    export_->RequestShutdown();
    co_return;
  }
  Task<std::string> AskTransport() {
    co_return std::string(export_->transport());
  }
  Task<void> ReleaseDriver() {
    driver_->Release();
    co_return;
  }
  Task<void> CloseGraph() {
    export_.reset();
    const absl::Status status = co_await graph_->Close();
    EXPECT_TRUE(status.ok()) << status;
    graph_.reset();
  }

  DiskOptions options_;
  TempFolder temp_;
  std::string path_;
  Place place_;
  std::unique_ptr<HostLoop> loop_;
  std::unique_ptr<Graph> graph_;
  TestDriver* driver_ = nullptr;
  std::unique_ptr<FuseExport> export_;
  std::atomic<bool> disconnected_{false};
  bool closed_ = false;
  std::unique_ptr<Watchdog> watchdog_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_TESTS_FUSE_MOUNTED_DISK_H_
