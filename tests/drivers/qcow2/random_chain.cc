#include "tests/drivers/qcow2/random_chain.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "graph/backend.h"
#include "tests/drivers/test_graph.h"
#include "tests/graph/cell_model.h"
#include "tests/graph/cow_driver.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kCell = CellModel::kCell;
constexpr int64_t kSmallest = 8192;
// What one cluster of an L1 table describes where clusters have 512 bytes.
constexpr int64_t kSmallL1Bytes = int64_t{2} << 20;

std::string ContentOf(const std::vector<int64_t>& numbers, int64_t offset,
                      int64_t bytes) {
  std::string content;
  for (int64_t at = offset; at < offset + bytes; at += kCell) {
    const auto cell = static_cast<size_t>(at / kCell);
    const int64_t number = cell < numbers.size() ? numbers[cell] : 0;
    content += CellModel::Content(number, {at, kCell});
  }
  return content;
}

}  // namespace

RandomChain::RandomChain(SimWorld* world)
    : world_(world), random_(world->random()) {
  world->disk().options().request_alignment = random_.Chance(0.5) ? 512 : 4096;
  const int cluster_bits = PickClusterBits();
  cluster_size_ = int64_t{1} << cluster_bits;
  PickSizes();
  for (int64_t levels = random_.Below(4) - 1; levels > 0; --levels) {
    const std::string name = NameOf(layers_.size());
    const int64_t number = -8 * (std::ssize(layers_) + 1);
    const Layer* below = layers_.empty() ? nullptr : &layers_.back();
    const int64_t kind = random_.Below(5);
    Layer layer = kind < 2 && below == nullptr ? MakeRaw(name, number)
                  : kind == 2                  ? MakeCow(number, below)
                                               : MakeQcow2(name, number, below,
                                          base_ == 0 ? PickClusterBits() : 10);
    layers_.push_back(std::move(layer));
    absl::StrAppend(&description_, "\n  below ");
  }
  Layer top = MakeQcow2("top", -4, layers_.empty() ? nullptr : &layers_.back(),
                        cluster_bits);
  top_spec_ = std::move(top.spec);
  numbers_ = std::move(top.numbers);
}

int RandomChain::PickClusterBits() {
  static constexpr int kBits[] = {9, 9, 9, 9, 10, 10, 11, 12, 12, 14, 16};
  return kBits[random_.Below(11)];
}

void RandomChain::PickSizes() {
  const int64_t most = cluster_size_ <= 512    ? 98304
                       : cluster_size_ <= 4096 ? 49152
                                               : 3 * cluster_size_;
  capacity_ = kCell * random_.Between(24576 / kCell, most / kCell);
  size_ = kCell * random_.Between(kSmallest / kCell, capacity_ / kCell);
  // Around the end of what the first cluster of the L1 table describes.
  if (cluster_size_ == 512 && random_.Chance(0.2)) {
    base_ = kSmallL1Bytes - 16384;
  }
}

// Shorter, as long, longer.
int64_t RandomChain::PickBackingSize() {
  const int64_t size =
      size_ + random_.Between(-1, 1) * random_.Below(128) * kCell;
  return std::clamp(size, kCell, capacity_);
}

std::string RandomChain::NameOf(size_t index) const {
  return absl::StrCat("layer", index);
}

// --- Files and layers --------------------------------------------------------

std::string RandomChain::AddFile(const std::string& name, int64_t offset,
                                 const std::string& content) {
  const std::string path = absl::StrCat(name, ".img");
  world_->disk().Create(
      path, std::string(static_cast<size_t>(offset), '\x5c') + content);
  if (name != "top") lower_files_[path] = world_->disk().Content(path);
  const bool direct = random_.Chance(0.4);
  if (direct) absl::StrAppend(&description_, ", direct");
  return absl::StrCat("file { filename: \"", path, "\"",
                      direct ? " cache { direct: true }" : "", " }");
}

RandomChain::Layer RandomChain::MakeRaw(const std::string& name,
                                        int64_t number) {
  Layer layer;
  layer.size = PickBackingSize();
  layer.numbers.assign(static_cast<size_t>(layer.size / kCell), number);
  absl::StrAppend(&description_, "raw of ", layer.size, " bytes");
  const int64_t offset = random_.Below(2) * random_.Below(5000);
  std::string content(static_cast<size_t>(base_), '\0');
  content += ContentOf(layer.numbers, 0, layer.size);
  layer.spec = absl::StrCat("node_name: \"", name, "\" read_only: true raw { ",
                            AddFile(name, offset, content), " offset: \"",
                            offset, "\" }");
  return layer;
}

// A copy-on-write node in memory, filled anew in each life. What it holds of
// its own begins in the middle of a cluster.
RandomChain::Layer RandomChain::MakeCow(int64_t number, const Layer* below) {
  Layer layer;
  layer.size = PickBackingSize();
  layer.cow_cluster = base_ == 0 ? int64_t{512} << random_.Below(5) : 1024;
  layer.numbers.assign(static_cast<size_t>(layer.size / kCell), 0);
  const int64_t own = random_.Below(std::ssize(layer.numbers));
  for (size_t i = 0; i < layer.numbers.size(); ++i) {
    if (static_cast<int64_t>(i) >= own) {
      layer.numbers[i] = number;
    } else if (below != nullptr && i < below->numbers.size()) {
      layer.numbers[i] = below->numbers[i];
    }
  }
  absl::StrAppend(&description_, "cow of ", layer.size, " bytes, clusters of ",
                  layer.cow_cluster);
  return layer;
}

NewImageOptions RandomChain::PickImage(int cluster_bits, int64_t size,
                                       bool top) {
  NewImageOptions image;
  image.cluster_bits = cluster_bits;
  image.version = random_.Chance(0.2) ? 2 : 3;
  image.size_bytes = base_ + size;
  image.spare_l1_entries = random_.Chance(0.3) ? random_.Below(80) : 0;
  if (image.version == 3) {
    // Wide counts make many blocks.
    image.refcount_order =
        top && random_.Chance(0.4) ? 6 : static_cast<int>(random_.Below(7));
    if (random_.Chance(0.3)) image.compression = CompressionType::kZstd;
    image.lazy_refcounts = random_.Chance(0.3);
    image.dirty = top && random_.Chance(0.1);
  }
  AddUnknownFields(&random_, &image);
  return image;
}

std::vector<int64_t> RandomChain::NumbersOf(const std::vector<Source>& clusters,
                                            int64_t cluster, int64_t number,
                                            int64_t size,
                                            const Layer* below) const {
  std::vector<int64_t> numbers(static_cast<size_t>(capacity_ / kCell));
  for (int64_t i = 0; i < size / kCell; ++i) {
    int64_t& here = numbers[static_cast<size_t>(i)];
    switch (clusters[static_cast<size_t>((base_ + i * kCell) / cluster)]) {
      case Source::kBacking:
        if (below != nullptr && i < std::ssize(below->numbers)) {
          here = below->numbers[static_cast<size_t>(i)];
        }
        break;
      case Source::kZeros:
        break;
      case Source::kOld:
        here = number - 1;
        break;
      case Source::kNew:
        here = number;
        break;
    }
  }
  return numbers;
}

RandomChain::Layer RandomChain::MakeQcow2(const std::string& name,
                                          int64_t number, const Layer* below,
                                          int cluster_bits) {
  const bool top = name == "top";
  const int64_t cluster = int64_t{1} << cluster_bits;
  Layer layer;
  layer.size = top ? size_ : PickBackingSize();
  RandomImageOptions options;
  options.image = PickImage(cluster_bits, layer.size, top);
  if (below != nullptr) options.image.backing_name = "below";
  options.first_cluster = base_ / cluster;
  options.end_cluster = (base_ + layer.size + cluster - 1) / cluster;
  options.allocated = random_.Uniform();
  // So many clusters that the refcount table is nearly full.
  if (top && cluster == 512 && options.image.refcount_order >= 5 &&
      random_.Chance(0.2)) {
    options.leaked_clusters =
        (int64_t{64} * 4096 >> options.image.refcount_order) - 150;
  }
  options.content = [this, cluster, number](int64_t index, Source source) {
    return CellModel::Content(source == Source::kOld ? number - 1 : number,
                              {index * cluster - base_, cluster});
  };
  const RandomImage image = MakeRandomImage(&random_, options);
  absl::StrAppend(&description_, image.description);
  layer.numbers = NumbersOf(image.clusters, cluster, number, layer.size, below);
  const int64_t raw_offset =
      top && random_.Chance(0.3) ? 512 * random_.Below(20) : -1;
  std::string file =
      AddFile(name, std::max<int64_t>(raw_offset, 0), image.bytes);
  if (top) {
    path_ = "top.img";
    offset_in_file_ = std::max<int64_t>(raw_offset, 0);
    if (!image.snapshot.empty()) {
      resizable_ = options.image.version > 2;
      snapshot_ = NumbersOf(image.snapshot, cluster, number, layer.size, below);
    }
    if (raw_offset >= 0) {
      absl::StrAppend(&description_, ", in raw");
      raw_spec_ = absl::StrCat("raw { ", file, " offset: \"", raw_offset,
                               "\" } node_name: \"window\"");
      file = "file_node: \"window\"";
    }
  }
  static constexpr const char* kCacheSizes[] = {"512", "1024", "4096",
                                                "33554432"};
  layer.spec = absl::StrCat(
      "node_name: \"", name, "\" ", top ? "" : "read_only: true ", "qcow2 { ",
      file,
      below == nullptr
          ? ""
          : absl::StrCat(" backing: \"", NameOf(layers_.size() - 1), "\""),
      " l2_cache_size: \"", kCacheSizes[random_.Below(4)], "\" }");
  return layer;
}

// --- Opening -----------------------------------------------------------------

std::string RandomChain::ImageBytes() const {
  return world_->disk().Content(path_).substr(
      static_cast<size_t>(offset_in_file_));
}

bool RandomChain::LowerFilesUnchanged() const {
  return std::all_of(lower_files_.begin(), lower_files_.end(),
                     [this](const auto& file) {
                       return world_->disk().Content(file.first) == file.second;
                     });
}

Task<absl::StatusOr<Node*>> RandomChain::OpenSpec(Graph* graph,
                                                  std::string spec) const {
  const proto::Node node = ParseNode(spec);
  const OpenContext context;
  co_return co_await OpenNode(*graph, node, context);
}

Task<absl::StatusOr<Node*>> RandomChain::OpenCow(Graph* graph,
                                                 size_t index) const {
  const Layer& layer = layers_[index];
  auto file = co_await OpenSpec(
      graph, "memory { size: \"0\" } read_only: false discard: UNMAP");
  if (!file.ok()) co_return file.status();
  auto owned = std::make_unique<CowDriver>(layer.cow_cluster);
  CowDriver* driver = owned.get();
  Node* node = graph->AddNode({.name = NameOf(index)}, std::move(owned));
  auto attached = node->AttachChild("file", ChildRole::kFile, *file);
  if (!attached.ok()) co_return attached.status();
  if (index > 0) {
    attached = node->AttachChild("backing", ChildRole::kBacking,
                                 graph->FindNode(NameOf(index - 1)));
    if (!attached.ok()) co_return attached.status();
  }
  driver->OpenWith(base_ + layer.size);
  node->RefreshLimits();
  // What differs from the layer below.
  auto backend = Backend::Create("fill", node,
                                 {kConsistentRead | kWrite, kAllPermissions});
  if (!backend.ok()) co_return backend.status();
  for (size_t i = 0; i < layer.numbers.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) * kCell;
    const bool same = index > 0 && i < layers_[index - 1].numbers.size() &&
                      layers_[index - 1].numbers[i] == layer.numbers[i];
    if (same || layer.numbers[i] == 0) continue;
    const int64_t bytes = layer.size - at;
    std::string content = ContentOf(layer.numbers, at, bytes);
    const IoStatus written =
        co_await (*backend)->Write(base_ + at, IoView(content.data(), bytes));
    if (!written.ok()) co_return written.ToStatus("filling a layer");
    break;
  }
  co_return node;
}

Task<absl::StatusOr<Node*>> RandomChain::Open(Graph* graph,
                                              bool read_only) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto opened = layers_[i].cow_cluster > 0
                            ? co_await OpenCow(graph, i)
                            : co_await OpenSpec(graph, layers_[i].spec);
    if (!opened.ok()) co_return opened.status();
  }
  const std::string rights =
      read_only ? " read_only: true" : " read_only: false discard: UNMAP";
  if (!raw_spec_.empty()) {
    const auto opened =
        co_await OpenSpec(graph, absl::StrCat(raw_spec_, rights));
    if (!opened.ok()) co_return opened.status();
  }
  co_return co_await OpenSpec(graph, absl::StrCat(top_spec_, rights));
}

Task<std::string> RandomChain::ReadSnapshot(Graph* graph) const {
  const auto top = co_await Open(graph, /*read_only=*/true);
  if (!top.ok()) co_return top.status().ToString();
  const auto backend =
      Backend::Create("snapshot", *top, {kConsistentRead, kAllPermissions});
  const int64_t bytes = (*backend)->size() - base_;
  std::string content(static_cast<size_t>(bytes), '?');
  const IoStatus read =
      co_await (*backend)->Read(base_, IoView(content.data(), bytes));
  if (!read.ok()) co_return "reading the snapshot fails";
  if (content != ContentOf(snapshot_, 0, bytes)) {
    co_return "the snapshot has changed";
  }
  co_return "";
}

Task<std::string> RandomChain::CompareSnapshot(std::string image) {
  const std::string now = world_->disk().Content(path_);
  const auto before = static_cast<size_t>(offset_in_file_);
  world_->disk().Remove(path_);
  world_->disk().Create(path_, now.substr(0, before) + image);
  Graph graph(&world_->loop());
  std::string wrong = co_await ReadSnapshot(&graph);
  (co_await graph.Close()).IgnoreError();
  world_->disk().Remove(path_);
  world_->disk().Create(path_, now);
  co_return wrong;
}

}  // namespace bgfs::qcow2
