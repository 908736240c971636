// A chain of images, opened as users open it, for tests that read it.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_OPEN_CHAIN_H_
#define BGFS_TESTS_DRIVERS_QCOW2_OPEN_CHAIN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "drivers/qcow2/qcow2.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {

class OpenChain {
 public:
  // `path` is a qcow2 image; its backing files are opened as their headers say.
  static absl::StatusOr<std::unique_ptr<OpenChain>> Open(
      const std::string& path, int64_t l2_cache_bytes = int64_t{32} << 20,
      bool with_reports = true);
  ~OpenChain() { disk_.reset(); }

  int64_t size() const { return disk_->size(); }
  // 0 or an errno.
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

  TestDisk& disk() { return *disk_; }
  Node& top() { return disk_->backend().node(); }
  Qcow2& driver() { return static_cast<Qcow2&>(top().driver()); }
  // What the drivers reported.
  const std::vector<std::string>& reports() const { return graph_.warnings(); }

 private:
  OpenChain() = default;

  TestGraph graph_;
  std::unique_ptr<TestDisk> disk_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_OPEN_CHAIN_H_
