#include "drivers/create.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "drivers/file.h"
#include "drivers/opener.h"
#include "drivers/quote.h"
#include "drivers/raw.h"
#include "graph/async/check.h"

namespace bgfs {
namespace {

DetectZeroes DetectZeroesOf(const proto::Node& spec) {
  switch (spec.detect_zeroes()) {
    case proto::DetectZeroes::OFF:
      return DetectZeroes::kOff;
    case proto::DetectZeroes::ON:
      return DetectZeroes::kOn;
    case proto::DetectZeroes::UNMAP:
      return DetectZeroes::kUnmap;
  }
  return DetectZeroes::kOff;
}

// What a filter would do to it is nothing to who only looks.
void LookThrough(proto::Node* spec) {
  std::string below;
  if (spec->has_throttle()) below = spec->throttle().file_node();
  if (spec->has_copy_on_read()) below = spec->copy_on_read().file_node();
  if (spec->has_blkdebug()) below = spec->blkdebug().file_node();
  if (!below.empty()) spec->mutable_raw()->set_file_node(below);
}

}  // namespace

Task<absl::StatusOr<Node*>> OpenNode(Graph& graph, const proto::Node& spec,
                                     const OpenContext& context) {
  BGFS_CHECK(graph.home().IsCurrent());
  Opener opener(graph, context);
  absl::StatusOr<Node*> node = co_await opener.Open(spec);
  if (!node.ok()) co_await opener.Undo();
  co_return node;
}

// --- The switch --------------------------------------------------------------

Task<absl::StatusOr<Node*>> Opener::OpenDriver(const proto::Node& spec) {
  switch (spec.driver_case()) {
    case proto::Node::kFile:
    case proto::Node::kNull:
    case proto::Node::kMemory:
      co_return co_await OpenLeaf(spec);
    case proto::Node::kRaw:
      co_return co_await OpenRaw(spec);
    case proto::Node::kQcow2:
      co_return co_await OpenQcow2(spec);
    case proto::Node::kThrottle:
    case proto::Node::kCopyOnRead:
    case proto::Node::kBlkdebug:
      co_return co_await OpenFilter(spec);
    case proto::Node::DRIVER_NOT_SET:
      break;
  }
  co_return absl::InvalidArgumentError(
      "the node has no driver; give it one, such as raw { ... }");
}

Task<absl::StatusOr<Node*>> Opener::OpenLeaf(const proto::Node& spec) {
  auto driver = MakeDriver(spec, context_);
  if (!driver.ok()) co_return driver.status();
  co_return co_await Add(spec, *std::move(driver), {});
}

Task<absl::StatusOr<Node*>> Opener::OpenRaw(const proto::Node& spec) {
  auto driver = MakeDriver(spec, context_);
  if (!driver.ok()) co_return driver.status();
  const auto file = co_await OpenFileChild(spec, spec.raw());
  if (!file.ok()) co_return file;
  std::vector<Edge> edges = {{"file", ChildRole::kFilter, *file}};
  co_return co_await Add(spec, *std::move(driver), std::move(edges));
}

// --- What they share ---------------------------------------------------------

Task<absl::StatusOr<Node*>> Opener::Open(proto::Node spec) {
  if (!spec.has_read_only()) spec.set_read_only(true);
  if (spec.file().has_cache()) {
    spec.mutable_cache()->MergeFrom(spec.file().cache());
  }
  absl::StatusOr<Node*> node = co_await OpenDriver(spec);
  if (node.ok() || !spec.has_node_name() ||
      absl::StartsWith(spec.node_name(), "#") ||
      absl::StartsWith(node.status().message(), "node \"")) {
    co_return node;
  }
  co_return Prefix(absl::StrCat("node ", Quote(spec.node_name())),
                   node.status());
}

absl::StatusOr<Node*> Opener::Find(absl::string_view name) const {
  Node* const node = graph_.FindNode(name);
  if (node != nullptr) return node;
  return absl::NotFoundError(
      absl::StrCat("node ", Quote(name),
                   " is not open; define it before what stands on it"));
}

Task<absl::StatusOr<Node*>> Opener::OpenInlineFile(const proto::Node& parent,
                                                   const proto::File& file) {
  proto::Node spec;
  *spec.mutable_file() = file;
  *spec.mutable_cache() = file.cache();
  Inherit(parent, &spec);
  co_return co_await Open(std::move(spec));
}

Task<absl::StatusOr<Node*>> Opener::OpenInlineNode(const proto::Node& parent,
                                                   proto::Node child) {
  Inherit(parent, &child);
  return Open(std::move(child));
}

absl::StatusOr<int64_t> WriteThresholdOf(const proto::Node& spec) {
  if (!spec.has_write_threshold()) return 0;
  return ParseBytes("write_threshold", spec.write_threshold());
}

NodeOptions OptionsOf(const proto::Node& spec) {
  NodeOptions options;
  options.name = spec.node_name();
  options.read_only = spec.read_only();
  options.unmap = spec.discard() == proto::Discard::UNMAP;
  options.no_flush = spec.cache().no_flush();
  options.detect_zeroes = DetectZeroesOf(spec);
  return options;
}

absl::StatusOr<Node*> Opener::AddNode(const proto::Node& spec,
                                      std::unique_ptr<Driver> driver,
                                      std::vector<Edge> edges) {
  if (spec.node_name().size() > Node::kMaxNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name ", Quote(spec.node_name()), " is longer than ",
                     Node::kMaxNameBytes, " bytes; shorten it"));
  }
  if (graph_.FindNode(spec.node_name()) != nullptr) {
    return absl::AlreadyExistsError(
        absl::StrCat("there is a node ", Quote(spec.node_name()),
                     " already; choose another name"));
  }
  Node* const node = graph_.AddNode(OptionsOf(spec), std::move(driver));
  added_.push_back(node);
  const absl::StatusOr<int64_t> threshold = WriteThresholdOf(spec);
  if (!threshold.ok()) return threshold.status();
  node->SetWriteThreshold(*threshold);
  for (Edge& edge : edges) {
    const auto attached =
        node->AttachChild(std::move(edge.name), edge.role, edge.node);
    if (!attached.ok()) return attached.status();
  }
  return node;
}

Task<absl::StatusOr<Node*>> Opener::Add(const proto::Node& spec,
                                        std::unique_ptr<Driver> driver,
                                        std::vector<Edge> edges) {
  const absl::StatusOr<Node*> node =
      AddNode(spec, std::move(driver), std::move(edges));
  if (!node.ok()) co_return node;
  absl::Status opened = co_await (*node)->driver().Open();
  if (!opened.ok()) co_return opened;
  co_return node;
}

Task<void> Opener::TakeBackLast() {
  Node* const node = added_.back();
  added_.pop_back();
  co_await node->in_flight().WaitIdle();
  co_await node->driver().Close();
  graph_.RemoveNode(node);
}

Task<void> Opener::Undo() {
  while (!added_.empty()) co_await TakeBackLast();
}

// --- Images that are open already --------------------------------------------

Task<Node*> Opener::ShareFile(Node* file) {
  BGFS_CHECK(file == added_.back());
  const auto& opened = static_cast<const FileDriver&>(file->driver());
  for (const auto& node : graph_.nodes()) {
    if (node.get() == file || node->driver().format_name() != "file" ||
        !node->options().Like(file->options())) {
      continue;
    }
    const auto& other = static_cast<const FileDriver&>(node->driver());
    if (!other.Like(opened)) continue;
    Node* const found = node.get();
    co_await TakeBackLast();
    co_return found;
  }
  co_return file;
}

Node* Opener::FindFormat(absl::string_view format, const proto::Node& spec,
                         const Node* file, const Node* below) const {
  const NodeOptions options = OptionsOf(spec);
  for (const auto& node : graph_.nodes()) {
    const Child* const edge = node->child("file");
    if (edge == nullptr || &edge->node() != file ||
        node->driver().format_name() != format ||
        !node->options().Like(options)) {
      continue;
    }
    const Child* const backing = node->backing();
    if ((backing == nullptr ? nullptr : &backing->node()) != below) continue;
    if (format == "raw" &&
        !static_cast<const RawDriver&>(node->driver()).whole()) {
      continue;
    }
    return node.get();
  }
  return nullptr;
}

Task<absl::StatusOr<std::vector<FileIdentity>>> FindHostFiles(
    Loop* loop, std::vector<proto::Node> specs, OpenContext context) {
  context.warn = nullptr;  // who opens them is told
  Graph graph(loop);
  Opener opener(graph, context);
  absl::StatusOr<std::vector<FileIdentity>> found = std::vector<FileIdentity>();
  for (proto::Node& spec : specs) {
    spec.set_read_only(true);
    spec.set_force_share(true);
    LookThrough(&spec);
    if (spec.has_qcow2() && &spec == &specs.back()) {
      found = co_await opener.FindNamedFiles(spec);
      break;
    }
    const auto node = co_await opener.Open(spec);
    if (!node.ok()) {
      found = node.status();
      break;
    }
    if (spec.has_file()) {
      const auto& file = static_cast<const FileDriver&>((*node)->driver());
      found = std::vector<FileIdentity>{
          {file.filename(), file.device(), file.inode()}};
    }
  }
  co_await opener.Undo();
  co_return found;
}

void Inherit(const proto::Node& parent, proto::Node* child) {
  if (!child->has_read_only()) child->set_read_only(parent.read_only());
  if (!child->has_discard()) child->set_discard(proto::Discard::UNMAP);
  if (!child->has_force_share()) child->set_force_share(parent.force_share());
  proto::Cache cache = parent.cache();
  cache.MergeFrom(child->cache());
  *child->mutable_cache() = cache;
}

absl::StatusOr<int64_t> ParseBytes(absl::string_view field,
                                   absl::string_view text) {
  int64_t bytes = 0;
  if (!absl::SimpleAtoi(text, &bytes) || bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, " ", Quote(text), " is not a number of bytes; give one"));
  }
  return bytes;
}

absl::Status Prefix(absl::string_view context, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(context, ": ", status.message()));
}

}  // namespace bgfs
