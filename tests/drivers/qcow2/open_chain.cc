#include "tests/drivers/qcow2/open_chain.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace bgfs::qcow2 {
namespace {

Task<void> ReadInto(Backend* backend, OpenChain::Part part, int* error,
                    InFlight::Holder holder) {
  const IoStatus status =
      co_await backend->Read(part.offset, IoView(part.to, part.bytes));
  if (*error == 0) *error = status.error();
}

Task<int> ReadAll(Backend* backend, std::vector<OpenChain::Part> parts) {
  InFlight running;
  int error = 0;
  for (const OpenChain::Part& part : parts) {
    Spawn(ReadInto(backend, part, &error, running.Hold()));
  }
  co_await running.WaitIdle();
  co_return error;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OpenChain>> OpenChain::Open(
    const std::string& path, int64_t l2_cache_bytes, bool with_reports) {
  std::unique_ptr<OpenChain> chain(new OpenChain);
  if (!with_reports) chain->graph_.context().warn = nullptr;
  const auto node = chain->graph_.Open(
      absl::StrCat("qcow2 { file { filename: \"", path,
                   "\" } l2_cache_size: \"", l2_cache_bytes, "\" }"));
  if (!node.ok()) return node.status();
  auto disk = chain->graph_.Attach(*node, kConsistentRead);
  if (!disk.ok()) return disk.status();
  chain->disk_ = *std::move(disk);
  return chain;
}

int OpenChain::Read(int64_t offset, int64_t bytes, char* to) {
  return disk_->Do(disk_->backend().Read(offset, IoView(to, bytes))).error();
}

int OpenChain::ReadAtOnce(const std::vector<Part>& parts) {
  return disk_->Do(ReadAll(&disk_->backend(), parts));
}

BlockStatus OpenChain::Status(int64_t offset, int64_t bytes, int* error) {
  const IoResult<BlockStatus> status =
      disk_->Do(disk_->backend().root().Status(nullptr, offset, bytes, true));
  *error = status.error();
  return status.ok() ? *status : BlockStatus();
}

}  // namespace bgfs::qcow2
