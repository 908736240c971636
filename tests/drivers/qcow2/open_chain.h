// Opens a chain of images for a test: files, drivers and graph are the real
// ones, on a loop of the kernel. Follows the names in the headers without any
// policy.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_OPEN_CHAIN_H_
#define BGFS_TESTS_DRIVERS_QCOW2_OPEN_CHAIN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "drivers/qcow2/qcow2.h"
#include "graph/async/uring_loop.h"
#include "graph/backend.h"
#include "graph/graph.h"

namespace bgfs::qcow2 {

class OpenChain {
 public:
  // `path` is a qcow2 image; its backing files are opened as their headers say.
  static absl::StatusOr<std::unique_ptr<OpenChain>> Open(
      const std::string& path, int64_t l2_cache_bytes = int64_t{32} << 20);
  ~OpenChain();

  int64_t size() const { return size_; }
  // From the test's thread: 0 or an errno.
  int Read(int64_t offset, int64_t bytes, char* to);
  // All of these at once, one task each; the first error.
  struct Part {
    int64_t offset;
    int64_t bytes;
    char* to;
  };
  int ReadAtOnce(const std::vector<Part>& parts);
  // Of the top layer; an errno in `error` if it failed.
  BlockStatus Status(int64_t offset, int64_t bytes, int* error);

  Node& top() { return *top_; }
  Qcow2& driver() { return static_cast<Qcow2&>(top_->driver()); }
  // What the drivers reported.
  const std::vector<std::string>& reports() const { return reports_; }

 private:
  OpenChain() = default;
  Task<absl::Status> OpenAll(std::string path, int64_t l2_cache_bytes);
  Task<absl::StatusOr<Node*>> OpenFile(std::string path);
  Task<absl::StatusOr<Node*>> OpenImage(std::string path, std::string format,
                                        int64_t l2_cache_bytes, int depth);
  Task<absl::Status> CloseAll();

  std::unique_ptr<UringLoop> loop_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Backend> backend_;
  Node* top_ = nullptr;
  int64_t size_ = 0;
  std::vector<std::string> reports_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_OPEN_CHAIN_H_
