#include "drivers/filter.h"

#include "graph/async/check.h"
#include "graph/status.h"

namespace bgfs {

Task<absl::Status> FilterDriver::Open() {
  file_ = node().child("file");
  BGFS_CHECK(file_ != nullptr);
  node().SetSize(file_->size());
  co_return absl::OkStatus();
}

Task<IoStatus> FilterDriver::Read(Request& request, int64_t offset,
                                  IoView data) {
  return file_->Read(&request, offset, data, request.flags() & kFilterPassesOn);
}

Task<IoStatus> FilterDriver::Write(Request& request, int64_t offset,
                                   IoView data) {
  return file_->Write(&request, offset, data,
                      request.flags() & kFilterPassesOn);
}

Task<IoStatus> FilterDriver::Zero(Request& request, int64_t offset,
                                  int64_t bytes, RequestFlags flags) {
  return file_->Zero(&request, offset, bytes,
                     flags | (request.flags() & kFilterPassesOn));
}

Task<IoStatus> FilterDriver::Discard(Request& request, int64_t offset,
                                     int64_t bytes) {
  return file_->Discard(&request, offset, bytes);
}

Task<IoStatus> FilterDriver::Reserve(Request& request, int64_t offset,
                                     int64_t bytes) {
  return file_->Reserve(&request, offset, bytes);
}

Task<IoStatus> FilterDriver::Truncate(Request& request, int64_t size_bytes,
                                      Preallocation preallocation) {
  return file_->Truncate(&request, size_bytes, /*exact=*/true, preallocation);
}

Task<IoResult<BlockStatus>> FilterDriver::Status(Request& request,
                                                 int64_t offset, int64_t bytes,
                                                 bool) {
  // The file may itself be an overlay, which leaves it to its backing layer.
  IoResult<BlockStatus> status =
      co_await StatusOfChain(*file_, &request, offset, bytes);
  if (!status.ok()) co_return status;
  status->flags &= ~BlockStatus::kEof;
  status->flags |= BlockStatus::kAllocated | BlockStatus::kRaw;
  status->file = &file_->node();
  status->file_offset = offset;
  co_return status;
}

Task<IoResult<int64_t>> FilterDriver::AllocatedBytes() {
  return file_->node().driver().AllocatedBytes();
}

void FilterDriver::OnChildResized(Child& child) {
  node().SetSize(child.size());
}

}  // namespace bgfs
