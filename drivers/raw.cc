#include "drivers/raw.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"
#include "graph/status.h"

namespace bgfs {

Task<absl::Status> RawDriver::Open() {
  file_ = node().child("file");
  BGFS_CHECK(file_ != nullptr);
  const int64_t left = file_->size() - options_.offset;
  if (options_.offset < 0 || options_.size.value_or(0) < 0 || left < 0 ||
      options_.size.value_or(0) > left) {
    co_return absl::InvalidArgumentError(absl::StrCat(
        "the window from offset ", options_.offset,
        options_.size ? absl::StrCat(" with size ", *options_.size) : "",
        " reaches past the end of the file, which has ", file_->size(),
        " bytes; make offset and size smaller"));
  }
  node().SetSize(options_.size.value_or(left));
  co_return absl::OkStatus();
}

Task<IoStatus> RawDriver::Read(Request& request, int64_t offset, IoView data) {
  return file_->Read(&request, options_.offset + offset, data,
                     request.flags() & kFilterPassesOn);
}

Task<IoStatus> RawDriver::Write(Request& request, int64_t offset, IoView data) {
  if (options_.size && offset + data.size() > *options_.size) {
    co_return IoError(ENOSPC);
  }
  if (offset + data.size() > Range::kToInfinity - options_.offset) {
    co_return IoError(EFBIG);
  }
  co_return co_await file_->Write(&request, options_.offset + offset, data,
                                  request.flags() & kFilterPassesOn);
}

Task<IoStatus> RawDriver::Zero(Request& request, int64_t offset, int64_t bytes,
                               RequestFlags flags) {
  return file_->Zero(&request, options_.offset + offset, bytes,
                     flags | (request.flags() & kFilterPassesOn));
}

Task<IoStatus> RawDriver::Discard(Request& request, int64_t offset,
                                  int64_t bytes) {
  return file_->Discard(&request, options_.offset + offset, bytes);
}

Task<IoStatus> RawDriver::Reserve(Request& request, int64_t offset,
                                  int64_t bytes) {
  return file_->Reserve(&request, options_.offset + offset, bytes);
}

Task<IoStatus> RawDriver::Truncate(Request& request, int64_t size_bytes,
                                   Preallocation preallocation) {
  if (options_.size) {
    co_return size_bytes == *options_.size ? IoStatus() : IoError(ENOTSUP);
  }
  if (size_bytes > Range::kToInfinity - options_.offset) {
    co_return IoError(EFBIG);
  }
  co_return co_await file_->Truncate(&request, options_.offset + size_bytes,
                                     /*exact=*/true, preallocation);
}

Task<IoResult<BlockStatus>> RawDriver::Status(Request& request, int64_t offset,
                                              int64_t bytes, bool) {
  const int64_t in_file = options_.offset + offset;
  // The file may itself be an overlay, which leaves it to its backing layer.
  IoResult<BlockStatus> status =
      co_await StatusOfChain(*file_, &request, in_file, bytes);
  if (!status.ok()) co_return status;
  status->flags &= ~BlockStatus::kEof;
  status->flags |= BlockStatus::kAllocated | BlockStatus::kRaw;
  status->file = &file_->node();
  status->file_offset = in_file;
  co_return status;
}

Task<IoStatus> RawDriver::CopyRangeFrom(Request& request, int64_t offset,
                                        int64_t bytes, CopyTarget target) {
  return file_->CopyRange(&request, options_.offset + offset, bytes, target);
}

Task<IoStatus> RawDriver::CopyRangeTo(Request& request, int64_t offset,
                                      int64_t bytes, CopySource source) {
  return file_->CopyRangeTo(&request, options_.offset + offset, bytes, source,
                            request.flags() & kFilterPassesOn);
}

Task<IoResult<int64_t>> RawDriver::AllocatedBytes() {
  return file_->node().driver().AllocatedBytes();
}

void RawDriver::OnChildResized(Child& child) {
  if (options_.size) return;
  node().SetSize(std::max<int64_t>(0, child.size() - options_.offset));
}

HostBytes* RawDriver::host_bytes() {
  const bool window = options_.offset != 0 || options_.size;
  const bool in_file = file_->node().driver().host_bytes() != nullptr;
  return !window && in_file ? this : nullptr;
}

int RawDriver::descriptor() const {
  return file_->node().driver().host_bytes()->descriptor();
}

Task<IoResult<FileInfo>> RawDriver::Look(Request& request) {
  return file_->Look(&request);
}

}  // namespace bgfs
