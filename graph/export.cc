#include "graph/export.h"

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"

namespace bgfs {

void BlockExport::Unref() {
  BGFS_CHECK(references_ > 0);
  if (--references_ == 0) Spawn(Finish());
}

void BlockExport::RequestShutdown(bool keep_clients) {
  if (shutting_down_) return;
  shutting_down_ = true;
  keep_clients_ = keep_clients;
  backend_->Refuse(ESHUTDOWN);
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

Task<void> BlockExport::EndClients() { co_return; }

}  // namespace bgfs
