#include "graph/export.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"

namespace bgfs {

void BlockExport::Unref() {
  BGFS_CHECK(references_ > 0);
  if (--references_ == 0) Spawn(Finish());
}

void BlockExport::RequestShutdown() {
  if (shutting_down_) return;
  shutting_down_ = true;
  OnShutdown();
  Unref();
}

Task<void> BlockExport::Finish() {
  co_await backend_->in_flight().WaitIdle();
  if (backend_->writable()) {
    const IoStatus flushed = co_await backend_->Flush();
    outcome_ = flushed.ToStatus(absl::StrCat(
        "export \"", id_, "\": what was written last may not be durable"));
  }
  co_await OnLastUnref();
  backend_.reset();
  closed_.Set();
}

Task<absl::Status> BlockExport::WaitClosed() {
  co_await closed_.Wait();
  co_return outcome_;
}

absl::Status ExportTable::Add(std::unique_ptr<BlockExport> block_export) {
  if (Find(block_export->id()) != nullptr) {
    return absl::AlreadyExistsError(
        absl::StrCat("export \"", block_export->id(),
                     "\": the id is taken; choose another"));
  }
  exports_.push_back(std::move(block_export));
  return absl::OkStatus();
}

BlockExport* ExportTable::Find(absl::string_view id) const {
  for (const auto& held : exports_) {
    if (held->id() == id) return held.get();
  }
  return nullptr;
}

void ExportTable::Remove(BlockExport* block_export) {
  exports_.erase(
      std::find_if(exports_.begin(), exports_.end(),
                   [block_export](const std::unique_ptr<BlockExport>& held) {
                     return held.get() == block_export;
                   }));
}

}  // namespace bgfs
