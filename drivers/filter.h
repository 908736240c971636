// FilterDriver: the base of drivers that stand between a node and its users and
// change no byte. It passes on everything to the child "file", so that a filter
// writes only what it intercepts:
//
//   class Counter final : public FilterDriver {
//     absl::string_view format_name() const override { return "counter"; }
//     Task<IoStatus> Read(Request& request, int64_t offset,
//                         IoView data) override {
//       ++reads_;
//       return FilterDriver::Read(request, offset, data);
//     }
//   };
//
// What its users need and share it needs and shares itself
// (ChildRole::kFilter). Copies are not passed on: they are read and written,
// and so meet the filter.

#ifndef BGFS_DRIVERS_FILTER_H_
#define BGFS_DRIVERS_FILTER_H_

#include <cstdint>

#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs {

class FilterDriver : public Driver {
 public:
  // With the child "file" attached, before any request.
  Task<absl::Status> Open() override;

  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  bool has_fua() const override { return true; }  // or its file flushes
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
  void OnChildResized(Child& child) override;

 protected:
  Child& file() { return *file_; }

 private:
  Child* file_ = nullptr;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_FILTER_H_
