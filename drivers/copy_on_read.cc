#include "drivers/copy_on_read.h"

#include "absl/strings/str_cat.h"
#include "drivers/quote.h"

namespace bgfs {

Task<absl::Status> CopyOnReadDriver::Open() {
  if (absl::Status opened = co_await FilterDriver::Open(); !opened.ok()) {
    co_return opened;
  }
  if (!file().node().read_only()) co_return absl::OkStatus();
  co_return absl::InvalidArgumentError(
      absl::StrCat("cannot copy into node ", Quote(file().node().name()),
                   ", which is read-only; give that read_only: false"));
}

Task<IoStatus> CopyOnReadDriver::Read(Request& request, int64_t offset,
                                      IoView data) {
  return file().Read(&request, offset, data,
                     (request.flags() & kFilterPassesOn) | kCopyOnRead);
}

PermissionSet CopyOnReadDriver::ChildPermissions(
    const Child& child, const PermissionSet& users) const {
  PermissionSet needs = FilterDriver::ChildPermissions(child, users);
  needs.used |= kWriteUnchanged;
  return needs;
}

}  // namespace bgfs
