#include "drivers/null.h"

namespace bgfs {

Task<absl::Status> NullDriver::Open() {
  node().SetSize(initial_size_);
  co_return absl::OkStatus();
}

Task<IoStatus> NullDriver::Read(Request&, int64_t, IoView data) {
  data.Zero();
  co_return IoStatus();
}

Task<IoStatus> NullDriver::Write(Request&, int64_t, IoView) {
  co_return IoStatus();
}

Task<IoStatus> NullDriver::Zero(Request&, int64_t, int64_t, RequestFlags) {
  co_return IoStatus();
}

Task<IoStatus> NullDriver::Discard(Request&, int64_t, int64_t) {
  co_return IoStatus();
}

Task<IoStatus> NullDriver::Reserve(Request&, int64_t, int64_t) {
  co_return IoStatus();
}

Task<IoStatus> NullDriver::Truncate(Request&, int64_t, Preallocation) {
  co_return IoStatus();
}

Task<IoResult<BlockStatus>> NullDriver::Status(Request&, int64_t, int64_t bytes,
                                               bool) {
  BlockStatus status;
  status.flags = BlockStatus::kZero | BlockStatus::kAllocated;
  status.bytes = bytes;
  co_return status;
}

Task<IoResult<int64_t>> NullDriver::AllocatedBytes() { co_return int64_t{0}; }

}  // namespace bgfs
