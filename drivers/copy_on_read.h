// The copy_on_read driver: what is read through it from below an overlay stays
// in the overlay. It only sets the flag; the engine does the rest, on the node
// that is populated (engine.md, 2.3). Where nothing is below it has no effect.

#ifndef BGFS_DRIVERS_COPY_ON_READ_H_
#define BGFS_DRIVERS_COPY_ON_READ_H_

#include <cstdint>

#include "drivers/filter.h"

namespace bgfs {

class CopyOnReadDriver final : public FilterDriver {
 public:
  // As FilterDriver's. Fails where the child is not open for writing.
  Task<absl::Status> Open() override;

  absl::string_view format_name() const override { return "copy_on_read"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  // Its own users may be all for reading.
  PermissionSet ChildPermissions(const Child& child,
                                 const PermissionSet& users) const override;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_COPY_ON_READ_H_
