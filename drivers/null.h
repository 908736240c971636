// The null driver: reads as zeros and forgets what is written, at once. For
// measuring what everything above a disk costs.

#ifndef BGFS_DRIVERS_NULL_H_
#define BGFS_DRIVERS_NULL_H_

#include <cstdint>

#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs {

class NullDriver final : public Driver {
 public:
  explicit NullDriver(int64_t size_bytes) : initial_size_(size_bytes) {}

  // Once the node has been added, before any request.
  Task<absl::Status> Open() override;

  absl::string_view format_name() const override { return "null"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;

 private:
  const int64_t initial_size_;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_NULL_H_
