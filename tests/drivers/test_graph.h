// What the tests of drivers share: a loop with a graph on it, nodes from text
// protos, and I/O that blocks the test.

#ifndef BGFS_TESTS_DRIVERS_TEST_GRAPH_H_
#define BGFS_TESTS_DRIVERS_TEST_GRAPH_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "google/protobuf/text_format.h"
#include "graph/async/make_loop.h"
#include "graph/backend.h"
#include "gtest/gtest.h"

namespace bgfs {

// A folder of its own, removed at the end.
class TempFolder {
 public:
  explicit TempFolder(const std::string& below = "/tmp") {
    std::string name = below + "/bgfs-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }

  std::string operator/(const std::string& name) const {
    return absl::StrCat(path_, "/", name);
  }
  const std::string& path() const { return path_; }
  // A file with this content; gives its path.
  std::string Write(const std::string& name, const std::string& content) const {
    std::ofstream(*this / name, std::ios::binary) << content;
    return *this / name;
  }

 private:
  std::string path_;
};

inline std::string ReadHostFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline proto::Node ParseNode(const std::string& text) {
  proto::Node node;
  if (!google::protobuf::TextFormat::ParseFromString(text, &node)) std::abort();
  return node;
}

constexpr Permissions kReadWrite = kConsistentRead | kWrite | kResize;

// A backend whose I/O blocks; errors are errnos.
class TestDisk {
 public:
  explicit TestDisk(std::unique_ptr<Backend> backend)
      : backend_(std::move(backend)) {}
  ~TestDisk() { Close(); }

  Backend& backend() { return *backend_; }
  int64_t size() const { return backend_->size(); }
  void Close() {
    if (backend_ == nullptr) return;
    BlockOn(backend_->home(), Drop(&backend_));
  }

  template <typename T>
  T Do(Task<T> task) {
    return BlockOn(backend_->home(), std::move(task));
  }
  // "errno 5" where it fails, so that a test shows it.
  std::string Read(int64_t offset, int64_t bytes) {
    std::string data(static_cast<size_t>(bytes), '?');
    const IoStatus status =
        Do(backend_->Read(offset, IoView(data.data(), bytes)));
    return status.ok() ? data : absl::StrCat("errno ", status.error());
  }
  int Write(int64_t offset, const std::string& data) {
    return Do(backend_->Write(offset, IoView(data.data(), static_cast<int64_t>(
                                                              data.size()))))
        .error();
  }
  int Zero(int64_t offset, int64_t bytes, RequestFlags flags = 0) {
    return Do(backend_->Zero(offset, bytes, flags)).error();
  }
  int Discard(int64_t offset, int64_t bytes) {
    return Do(backend_->Discard(offset, bytes)).error();
  }
  int Reserve(int64_t offset, int64_t bytes) {
    return Do(backend_->Reserve(offset, bytes)).error();
  }
  int Truncate(int64_t size_bytes,
               Preallocation preallocation = Preallocation::kOff) {
    return Do(backend_->Truncate(size_bytes, /*exact=*/true, preallocation))
        .error();
  }
  int Flush() { return Do(backend_->Flush()).error(); }
  BlockStatus Status(int64_t offset, int64_t bytes) {
    const IoResult<BlockStatus> status =
        Do(backend_->root().Status(nullptr, offset, bytes, /*precise=*/true));
    return status.ok() ? *status : BlockStatus();
  }
  int64_t AllocatedBytes() {
    const IoResult<int64_t> bytes = Do(backend_->AllocatedBytes());
    return bytes.ok() ? *bytes : -bytes.error();
  }

 private:
  static Task<void> Drop(std::unique_ptr<Backend>* backend) {
    backend->reset();
    co_return;
  }

  std::unique_ptr<Backend> backend_;
};

// Every TestDisk of it must be gone before it.
class TestGraph {
 public:
  TestGraph() {
    auto loop = MakeLoop("test");
    if (!loop.ok()) std::abort();
    loop_ = *std::move(loop);
    graph_ = std::make_unique<Graph>(loop_.get());
    context_.warn = [this](absl::string_view line) {
      warnings_.emplace_back(line);
    };
  }
  ~TestGraph() { Close().IgnoreError(); }

  Loop& loop() { return *loop_; }
  Graph& graph() { return *graph_; }
  OpenContext& context() { return context_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

  absl::StatusOr<Node*> Open(const std::string& text) {
    const proto::Node spec = ParseNode(text);
    return BlockOn(*loop_, OpenNode(*graph_, spec, context_));
  }
  absl::StatusOr<std::unique_ptr<TestDisk>> Attach(
      Node* node, Permissions used, Permissions shared = kAllPermissions) {
    auto backend = BlockOn(*loop_, Create(node, {used, shared}));
    if (!backend.ok()) return backend.status();
    return std::make_unique<TestDisk>(*std::move(backend));
  }
  // Opens a node and a disk over it; the test fails if that does.
  std::unique_ptr<TestDisk> Disk(const std::string& text,
                                 Permissions used = kReadWrite) {
    auto node = Open(text);
    if (!node.ok()) {
      ADD_FAILURE() << node.status();
      std::abort();
    }
    auto disk = Attach(*node, used);
    if (!disk.ok()) {
      ADD_FAILURE() << disk.status();
      std::abort();
    }
    return *std::move(disk);
  }
  absl::Status Close() { return BlockOn(*loop_, graph_->Close()); }

 private:
  static Task<absl::StatusOr<std::unique_ptr<Backend>>> Create(
      Node* node, PermissionSet permissions) {
    co_return Backend::Create("test", node, permissions);
  }

  std::unique_ptr<HostLoop> loop_;
  std::unique_ptr<Graph> graph_;
  OpenContext context_;
  std::vector<std::string> warnings_;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_DRIVERS_TEST_GRAPH_H_
