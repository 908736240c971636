// The raw driver: the bytes of its file as they are, or a window of them. It is
// the filter to read first: it passes on everything, at another offset.
//
//   file   0 ........ offset ................ offset + size ...... end
//   node                   0 ............ size
//
// Without `size` the window ends where the file does, and grows and shrinks
// with it.

#ifndef BGFS_DRIVERS_RAW_H_
#define BGFS_DRIVERS_RAW_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "graph/driver.h"
#include "graph/host_bytes.h"
#include "graph/node.h"

namespace bgfs {

class RawDriver final : public Driver, private HostBytes {
 public:
  struct Options {
    int64_t offset = 0;            // where the window begins, bytes
    absl::optional<int64_t> size;  // bytes; to the end of the file if absent
  };

  explicit RawDriver(Options options) : options_(options) {}

  // With the child "file" attached, before any request. Fails when the window
  // reaches past the end of the file.
  Task<absl::Status> Open() override;

  // Whether it has no window: it shows the whole file.
  bool whole() const { return options_.offset == 0 && !options_.size; }

  absl::string_view format_name() const override { return "raw"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  // ENOSPC past the end of a window with a size.
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  bool has_fua() const override { return true; }  // or its file flushes
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  // ENOTSUP where the window has a size.
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  Task<IoStatus> CopyRangeFrom(Request& request, int64_t offset, int64_t bytes,
                               CopyTarget target) override;
  Task<IoStatus> CopyRangeTo(Request& request, int64_t offset, int64_t bytes,
                             CopySource source) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;
  void OnChildResized(Child& child) override;
  // Its file's, where there is no window.
  HostBytes* host_bytes() override;

 private:
  int descriptor() const override;
  Task<IoResult<FileInfo>> Look(Request& request) override;

  const Options options_;
  Child* file_ = nullptr;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_RAW_H_
