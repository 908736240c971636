#include "tests/drivers/qcow2/open_chain.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "graph/async/check.h"
#include "tests/drivers/qcow2/plain_file.h"

namespace bgfs::qcow2 {
namespace {

std::string InFolderOf(const std::string& image, const std::string& name) {
  if (absl::StartsWith(name, "/")) return name;
  return absl::StrCat(image.substr(0, image.rfind('/') + 1), name);
}

Task<int> ReadTask(Backend* backend, OpenChain::Part part) {
  const IoStatus status =
      co_await backend->Read(part.offset, IoView(part.to, part.bytes));
  co_return status.error();
}

Task<void> ReadInto(Backend* backend, OpenChain::Part part, int* error,
                    InFlight::Holder holder) {
  const int failed = co_await ReadTask(backend, part);
  if (*error == 0) *error = failed;
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

Task<IoResult<BlockStatus>> StatusTask(Backend* backend, int64_t offset,
                                       int64_t bytes) {
  co_return co_await backend->root().Status(nullptr, offset, bytes, true);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OpenChain>> OpenChain::Open(
    const std::string& path, int64_t l2_cache_bytes) {
  std::unique_ptr<OpenChain> chain(new OpenChain);
  auto loop = UringLoop::Start("qcow2-test");
  if (!loop.ok()) return loop.status();
  chain->loop_ = *std::move(loop);
  chain->graph_ = std::make_unique<Graph>(chain->loop_.get());
  absl::Status opened =
      BlockOn(*chain->loop_, chain->OpenAll(path, l2_cache_bytes));
  if (!opened.ok()) return opened;
  return chain;
}

OpenChain::~OpenChain() {
  if (graph_ == nullptr) return;
  const absl::Status closed = BlockOn(*loop_, CloseAll());
  BGFS_CHECK(closed.ok());
}

Task<absl::Status> OpenChain::CloseAll() {
  backend_.reset();
  co_return co_await graph_->Close();
}

Task<absl::Status> OpenChain::OpenAll(std::string path,
                                      int64_t l2_cache_bytes) {
  absl::StatusOr<Node*> top =
      co_await OpenImage(path, "qcow2", l2_cache_bytes, 0);
  if (!top.ok()) co_return top.status();
  top_ = *top;
  size_ = top_->size();
  auto backend =
      Backend::Create("test", top_, {kConsistentRead, kAllPermissions});
  if (!backend.ok()) co_return backend.status();
  backend_ = *std::move(backend);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<Node*>> OpenChain::OpenImage(std::string path,
                                                 std::string format,
                                                 int64_t l2_cache_bytes,
                                                 int depth) {
  BGFS_CHECK(depth < 100);
  absl::StatusOr<Node*> file = co_await OpenFile(path);
  if (!file.ok() || format == "raw") co_return file;
  absl::StatusOr<Header> header = absl::UnknownError("");
  {
    auto probe =
        Backend::Create("probe", *file, {kConsistentRead, kAllPermissions});
    if (!probe.ok()) co_return probe.status();
    header = co_await ReadHeader((*probe)->root());
  }
  if (!header.ok()) co_return header.status();
  Node* backing = nullptr;
  if (!header->backing_name.empty()) {
    absl::StatusOr<Node*> opened = co_await OpenImage(
        InFolderOf(path, header->backing_name),
        header->backing_format.value_or("qcow2"), l2_cache_bytes, depth + 1);
    if (!opened.ok()) co_return opened;
    backing = *opened;
  }
  Options options;
  options.l2_cache_bytes = l2_cache_bytes;
  options.report = [this](absl::string_view line) {
    reports_.emplace_back(line);
  };
  auto driver = std::make_unique<Qcow2>(*std::move(header), std::move(options));
  Qcow2* image = driver.get();
  NodeOptions node_options;
  node_options.read_only = true;
  Node* node = graph_->AddNode(std::move(node_options), std::move(driver));
  auto edge = node->AttachChild("file", ChildRole::kFile, *file);
  if (edge.ok() && backing != nullptr) {
    edge = node->AttachChild("backing", ChildRole::kBacking, backing);
  }
  if (!edge.ok()) co_return edge.status();
  absl::Status opened = co_await image->Open();
  if (!opened.ok()) co_return opened;
  co_return node;
}

Task<absl::StatusOr<Node*>> OpenChain::OpenFile(std::string path) {
  auto opened = co_await loop_->Open(path, OpenOptions());
  if (!opened.ok()) co_return opened.status().ToStatus(path);
  const auto info = co_await (*opened)->Stat();
  if (!info.ok()) co_return info.status().ToStatus(path);
  NodeOptions options;
  options.read_only = true;
  Node* node = graph_->AddNode(std::move(options),
                               std::make_unique<PlainFile>(std::move(*opened)));
  node->SetSize(info->size);
  co_return node;
}

int OpenChain::Read(int64_t offset, int64_t bytes, char* to) {
  return BlockOn(*loop_, ReadTask(backend_.get(), {offset, bytes, to}));
}

int OpenChain::ReadAtOnce(const std::vector<Part>& parts) {
  return BlockOn(*loop_, ReadAll(backend_.get(), parts));
}

BlockStatus OpenChain::Status(int64_t offset, int64_t bytes, int* error) {
  IoResult<BlockStatus> status =
      BlockOn(*loop_, StatusTask(backend_.get(), offset, bytes));
  *error = status.error();
  return status.ok() ? *status : BlockStatus();
}

}  // namespace bgfs::qcow2
