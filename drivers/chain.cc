// Opening a qcow2 image with what it stands on.
//
// What lies below is either configured, or what the header names; then that
// image's header may name another one, and so on. Such a chain is walked down
// first, file by file, and its nodes are made from the bottom up. Where another
// chain of the graph has such a file or node already, it is shared.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "drivers/create.h"
#include "drivers/file.h"
#include "drivers/implicit.h"
#include "drivers/opener.h"
#include "drivers/probe.h"
#include "drivers/qcow2/qcow2.h"
#include "drivers/quote.h"
#include "graph/async/buffer.h"
#include "graph/backend.h"

namespace bgfs {
namespace {

// The host file that an image's bytes are in, or null (an image in memory).
const FileDriver* HostFileOf(const Node* file) {
  while (file->driver().format_name() != "file") {
    const Child* below = file->child("file");
    if (below == nullptr) return nullptr;
    file = &below->node();
  }
  return static_cast<const FileDriver*>(&file->driver());
}

// For messages.
std::string ImageName(const Node* file) {
  const FileDriver* const host = HostFileOf(file);
  return Quote(host != nullptr ? host->filename() : file->name());
}

// Access to a file while it is found out what it holds, with the rights that a
// format will have.
absl::StatusOr<std::unique_ptr<Backend>> Look(Node* file) {
  return Backend::Create("opening", file,
                         {kConsistentRead, kConsistentRead | kWriteUnchanged});
}

Task<absl::StatusOr<std::string>> ProbeNode(Node* file) {
  const auto look = Look(file);
  if (!look.ok()) co_return look.status();
  const int64_t bytes = std::min(kProbeBytes, file->size());
  AlignedBuffer start = AlignedBuffer::Allocate(kProbeBytes);
  const IoStatus read =
      start ? co_await (*look)->Read(0, start.view(0, bytes)) : IoError(ENOMEM);
  if (!read.ok()) co_return read.ToStatus("reading its first bytes");
  co_return ProbeFormat({start.data(), static_cast<size_t>(bytes)});
}

// The memory that an open image with this header takes at least.
int64_t TableBytes(const qcow2::Header& header) {
  auto bytes = static_cast<int64_t>(header.unknown_fields.size()) +
               header.l1_entries_needed * int64_t{sizeof(uint64_t)};
  for (const qcow2::HeaderExtension& extension : header.extensions) {
    bytes += static_cast<int64_t>(sizeof(extension) + extension.data.size());
  }
  return bytes;
}

// One image of a chain whose file is open.
struct Layer {
  proto::Node spec;
  Node* file;
  std::string path;  // of the file, as it was named; empty if in memory
  qcow2::Header header;
};

class ChainOpener {
 public:
  ChainOpener(Opener& opener, const proto::Node& spec)
      : opener_(opener), spec_(spec) {}

  Task<absl::StatusOr<Node*>> Open();
  // Only what lies below by name.
  Task<absl::StatusOr<std::vector<FileIdentity>>> FindNamedFiles();

 private:
  // Opens the files of all layers, and what has no layer.
  Task<absl::StatusOr<Node*>> Walk();
  Task<absl::Status> AddLayer(proto::Node spec, Node* file, std::string path);
  Task<absl::StatusOr<Node*>> OpenBelow();
  Task<absl::StatusOr<Node*>> OpenNamed();
  Task<absl::StatusOr<std::string>> Locate(const ImplicitImage& image);
  Task<absl::StatusOr<std::string>> FormatOf(const ImplicitImage& image,
                                             Node* file);
  absl::Status CheckLoop(const Node* file) const;
  Task<absl::StatusOr<Node*>> AddNode(Layer layer, Node* below);
  proto::Node Implicit() const;
  bool Shares() const { return spec_.qcow2().share_base(); }

  Opener& opener_;
  const proto::Node& spec_;
  std::vector<Layer> layers_;  // from the top down; those without a node yet
  int64_t table_bytes_ = 0;    // of all
  int64_t images_ = 0;
};

Task<absl::StatusOr<Node*>> ChainOpener::Walk() {
  const auto file = co_await opener_.OpenFileChild(spec_, spec_.qcow2());
  if (!file.ok()) co_return file;
  const FileDriver* const host = HostFileOf(*file);
  absl::Status added = co_await AddLayer(
      spec_, *file, host != nullptr ? host->filename() : std::string());
  if (!added.ok()) co_return added;
  co_return co_await OpenBelow();
}

Task<absl::StatusOr<Node*>> ChainOpener::Open() {
  absl::StatusOr<Node*> below = co_await Walk();
  while (below.ok() && !layers_.empty()) {
    Layer layer = std::move(layers_.back());
    layers_.pop_back();
    below = co_await AddNode(std::move(layer), *below);
  }
  co_return below;
}

Task<absl::StatusOr<std::vector<FileIdentity>>> ChainOpener::FindNamedFiles() {
  std::vector<FileIdentity> found;
  if (spec_.qcow2().backing_child_case() !=
      proto::Qcow2::BACKING_CHILD_NOT_SET) {
    co_return found;
  }
  const absl::StatusOr<Node*> below = co_await Walk();
  if (!below.ok()) co_return below.status();
  std::vector<const Node*> nodes;
  for (size_t i = 1; i < layers_.size(); ++i) nodes.push_back(layers_[i].file);
  if (*below != nullptr) nodes.push_back(*below);
  for (const Node* node : nodes) {
    const FileDriver* const host = HostFileOf(node);
    found.push_back({host->filename(), host->device(), host->inode()});
  }
  co_return found;
}

Task<absl::Status> ChainOpener::AddLayer(proto::Node spec, Node* file,
                                         std::string path) {
  const auto look = Look(file);
  if (!look.ok()) co_return look.status();
  auto header = co_await qcow2::ReadHeader((*look)->root());
  if (!header.ok()) co_return Prefix(ImageName(file), header.status());
  ++images_;
  table_bytes_ += TableBytes(*header);
  if (table_bytes_ > kMaxChainTableBytes) {
    co_return absl::ResourceExhaustedError(absl::StrCat(
        ImageName(file), ": the headers and L1 tables of the chain down to it ",
        "take more than ", kMaxChainTableBytes >> 20,
        " MiB; shorten the chain (qemu-img rebase)"));
  }
  layers_.push_back(
      {std::move(spec), file, std::move(path), *std::move(header)});
  co_return absl::OkStatus();
}

// What lies below the layers; null for nothing. Adds those that headers name.
Task<absl::StatusOr<Node*>> ChainOpener::OpenBelow() {
  const proto::Qcow2& qcow2 = spec_.qcow2();
  if (qcow2.has_backing()) co_return opener_.Find(qcow2.backing());
  if (qcow2.has_backing_inline()) {
    proto::Node backing = qcow2.backing_inline();
    if (!backing.has_read_only()) backing.set_read_only(true);
    Inherit(spec_, &backing);
    co_return co_await opener_.Open(std::move(backing));
  }
  absl::StatusOr<Node*> below = nullptr;
  while (below.ok() && *below == nullptr &&
         !layers_.back().header.backing_name.empty()) {
    const std::string holder = ImageName(layers_.back().file);
    below = co_await OpenNamed();
    if (!below.ok()) {
      co_return Prefix(absl::StrCat("backing file of ", holder),
                       below.status());
    }
  }
  co_return below;
}

// Opens what the last layer's header names: a raw image gives a node, a qcow2
// one another layer and null.
Task<absl::StatusOr<Node*>> ChainOpener::OpenNamed() {
  const qcow2::Header& header = layers_.back().header;
  if (layers_.size() >= kMaxChainDepth) {
    co_return absl::InvalidArgumentError(
        absl::StrCat("the chain is deeper than ", kMaxChainDepth,
                     " images; shorten it (qemu-img rebase)"));
  }
  absl::StatusOr<ImplicitImage> image = ParseImageName(header.backing_name);
  if (!image.ok()) {
    co_return Prefix(Quote(header.backing_name), image.status());
  }
  if (image->format.empty() && header.backing_format) {
    auto format = ParseImageFormat(*header.backing_format);
    if (!format.ok()) {
      co_return Prefix(Quote(image->filename), format.status());
    }
    image->format = *std::move(format);
  }
  const auto path = co_await Locate(*image);
  if (!path.ok()) co_return path.status();
  proto::Node file_spec = Implicit();
  file_spec.mutable_file()->set_filename(*path);
  auto file = co_await opener_.Open(std::move(file_spec));
  if (!file.ok()) co_return file;
  if (absl::Status loop = CheckLoop(*file); !loop.ok()) co_return loop;
  if (Shares()) file = co_await opener_.ShareFile(*file);
  const auto format = co_await FormatOf(*image, *file);
  if (!format.ok()) co_return format.status();
  proto::Node spec = Implicit();
  if (*format == "raw") {
    Node* const open =
        Shares() ? opener_.FindFormat("raw", spec, *file, nullptr) : nullptr;
    if (open != nullptr) co_return open;
    spec.mutable_raw()->set_file_node((*file)->name());
    co_return co_await opener_.Open(std::move(spec));
  }
  *spec.mutable_qcow2() = spec_.qcow2();
  const std::string named =
      LocateImplicit(layers_.back().path, image->filename);
  absl::Status added = co_await AddLayer(std::move(spec), *file, named);
  if (!added.ok()) co_return added;
  co_return nullptr;
}

Task<absl::StatusOr<std::string>> ChainOpener::Locate(
    const ImplicitImage& image) {
  const std::string& holder = layers_.back().path;
  if (holder.empty()) {
    co_return absl::InvalidArgumentError(absl::StrCat(
        Quote(image.filename),
        " is named by an image that is in no folder; give it a backing"));
  }
  absl::StatusOr<std::string> path;
  const std::string named = LocateImplicit(holder, image.filename);
  const OpenContext& context = opener_.context();
  co_await opener_.graph().home().Run(
      Loop::Offload::kBlocking, [&path, &context, &holder, &named] {
        path = CheckImplicit(context, holder, named);
      });
  co_return path;
}

Task<absl::StatusOr<std::string>> ChainOpener::FormatOf(
    const ImplicitImage& image, Node* file) {
  if (!image.format.empty()) co_return image.format;
  absl::StatusOr<std::string> format = co_await ProbeNode(file);
  if (!format.ok()) co_return Prefix(ImageName(file), format.status());
  const std::string& holder = layers_.back().path;
  if (format->empty()) {
    co_return absl::InvalidArgumentError(absl::StrCat(
        ImageName(file),
        " has no magic that tells its format, and the header does not give it; "
        "if it is a raw image, record that (qemu-img rebase -u -F raw -b ",
        ShellWord(image.filename), " ", ShellWord(holder), ")"));
  }
  if (opener_.context().warn) {
    opener_.context().warn(absl::StrCat(
        Quote(holder),
        ": the header does not give the format of its backing file ",
        ImageName(file), ", which looks like ", *format,
        "; record it (qemu-img rebase -u -F ", *format, " -b ",
        ShellWord(image.filename), " ", ShellWord(holder), ")"));
  }
  co_return format;
}

absl::Status ChainOpener::CheckLoop(const Node* file) const {
  const FileDriver* const host = HostFileOf(file);
  for (const Layer& layer : layers_) {
    const FileDriver* const above = HostFileOf(layer.file);
    if (above != nullptr && above->inode() == host->inode() &&
        above->device() == host->device()) {
      return absl::InvalidArgumentError(absl::StrCat(
          ImageName(file),
          " is already in the chain above: the chain is a loop; correct the "
          "backing file of one of its images (qemu-img rebase -u)"));
    }
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<Node*>> ChainOpener::AddNode(Layer layer, Node* below) {
  const std::string name = ImageName(layer.file);
  const bool top = layers_.empty();
  if (!top && Shares()) {
    Node* const open =
        opener_.FindFormat("qcow2", layer.spec, layer.file, below);
    if (open != nullptr) co_return open;
  }
  const OpenContext& context = opener_.context();
  auto options = Qcow2OptionsOf(layer.spec, context, name);
  if (!options.ok()) co_return options.status();
  if (!layer.spec.qcow2().has_l2_cache_size()) {
    options->l2_cache_bytes =
        std::min(options->l2_cache_bytes, kMaxChainCacheBytes / images_);
  }
  options->l2_cache_bytes /= top ? context.copies : context.named_copies;
  std::vector<Opener::Edge> edges = {{"file", ChildRole::kFile, layer.file}};
  if (below != nullptr)
    edges.push_back({"backing", ChildRole::kBacking, below});
  auto driver = std::make_unique<qcow2::Qcow2>(std::move(layer.header),
                                               *std::move(options));
  const auto node =
      co_await opener_.Add(layer.spec, std::move(driver), std::move(edges));
  if (!node.ok()) co_return Prefix(name, node.status());
  co_return node;
}

// Of what a header names: read only, and otherwise as the top is opened.
proto::Node ChainOpener::Implicit() const {
  proto::Node spec;
  spec.set_read_only(true);
  Inherit(spec_, &spec);
  return spec;
}

}  // namespace

Task<absl::StatusOr<Node*>> Opener::OpenQcow2(const proto::Node& spec) {
  ChainOpener chain(*this, spec);
  co_return co_await chain.Open();
}

Task<absl::StatusOr<std::vector<FileIdentity>>> Opener::FindNamedFiles(
    const proto::Node& spec) {
  ChainOpener chain(*this, spec);
  co_return co_await chain.FindNamedFiles();
}

}  // namespace bgfs
