#include "tests/graph/random_graph.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "drivers/raw.h"
#include "google/protobuf/text_format.h"
#include "graph/backend.h"
#include "gtest/gtest.h"
#include "tests/graph/cell_model.h"
#include "tests/graph/cow_driver.h"

namespace bgfs {

RandomGraph::RandomGraph(SimWorld* world, int64_t size)
    : world_(world), size_(size), graph_(&world->loop()) {}

Task<void> RandomGraph::Build() {
  top_ = co_await Layer(/*depth=*/0, size_, /*content=*/true);
  EXPECT_EQ(top_->size(), size_);
  // Only what lies in one file as it is can be looked up after a power cut.
  if (description_.find("cow") != std::string::npos ||
      description_.find("memory") != std::string::npos) {
    path_.clear();
  }
}

std::string RandomGraph::DurableContent() const {
  std::string content = world_->disk().Content(path_);
  content.erase(0,
                std::min(content.size(), static_cast<size_t>(offset_in_file_)));
  return content;
}

Task<Node*> RandomGraph::Layer(int depth, int64_t size, bool content) {
  const int64_t choice = world_->random().Below(depth < 3 ? 8 : 3);
  if (choice < 2) co_return co_await File(size, content);
  if (choice == 2) co_return co_await Memory(size, content);
  if (choice == 3) co_return co_await Raw(depth + 1, size, content);
  co_return co_await Cow(depth + 1, size, content);
}

proto::DetectZeroes::Mode RandomGraph::PickDetectZeroes() {
  return static_cast<proto::DetectZeroes::Mode>(
      std::max<int64_t>(0, world_->random().Below(5) - 2));
}

Task<Node*> RandomGraph::Open(const std::string& spec) {
  proto::Node node;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      absl::StrCat("read_only: false discard: UNMAP detect_zeroes: ",
                   proto::DetectZeroes::Mode_Name(PickDetectZeroes()), " ",
                   spec),
      &node));
  auto opened = co_await OpenNode(graph_, node, OpenContext{});
  EXPECT_TRUE(opened.ok()) << opened.status();
  co_return *opened;
}

Task<Node*> RandomGraph::File(int64_t size, bool content) {
  const bool direct = world_->random().Chance(0.5);
  path_ = absl::StrCat("file", files_++);
  absl::StrAppend(&description_, direct ? "direct" : "file");
  const int64_t bytes = size + offset_in_file_;
  std::string initial(static_cast<size_t>(bytes), 0);
  if (content) {
    initial.replace(static_cast<size_t>(offset_in_file_),
                    static_cast<size_t>(size),
                    CellModel::Content(1, {0, size}));
  }
  world_->disk().Create(path_, initial);
  co_return co_await Open(absl::StrCat(direct ? "cache { direct: true } " : "",
                                       "file { filename: \"", path_, "\" }"));
}

Task<Node*> RandomGraph::Memory(int64_t size, bool content) {
  absl::StrAppend(&description_, "memory");
  const int64_t bytes = size + offset_in_file_;
  Node* node = co_await Open(absl::StrCat("memory { size: \"", bytes, "\" }"));
  if (content && size > 0) {
    // Through a window of the offset the content begins later.
    std::string data = CellModel::Content(1, {0, size});
    auto backend = Backend::Create("fill", node,
                                   {kConsistentRead | kWrite, kAllPermissions});
    EXPECT_EQ(
        (co_await (*backend)->Write(offset_in_file_, IoView(data.data(), size)))
            .error(),
        0);
  }
  co_return node;
}

Task<Node*> RandomGraph::Raw(int depth, int64_t size, bool content) {
  // Over a file only: others would have to be filled through the window.
  (void)depth;
  RawDriver::Options options;
  options.offset = world_->random().Below(2) * world_->random().Below(5000);
  absl::StrAppend(&description_, "raw(");
  offset_in_file_ = options.offset;
  Node* file = world_->random().Chance(0.7) ? co_await File(size, content)
                                            : co_await Memory(size, content);
  absl::StrAppend(&description_, ")");
  auto owned = std::make_unique<RawDriver>(options);
  RawDriver* driver = owned.get();
  NodeOptions node_options;
  node_options.unmap = true;
  Node* node = graph_.AddNode(node_options, std::move(owned));
  EXPECT_TRUE(node->AttachChild("file", ChildRole::kFilter, file).ok());
  EXPECT_TRUE((co_await driver->Open()).ok());
  node->RefreshLimits();
  if (depth > 1) offset_in_file_ = 0;
  co_return node;
}

Task<Node*> RandomGraph::Cow(int depth, int64_t size, bool content) {
  SimRandom& random = world_->random();
  absl::StrAppend(&description_, "cow(");
  Node* file = co_await Layer(std::max(depth, 2), 0, /*content=*/false);
  offset_in_file_ = 0;
  Node* base = nullptr;
  int64_t base_size = 0;
  if (content && random.Chance(0.8)) {
    absl::StrAppend(&description_, ", ");
    // Shorter, as long, longer.
    base_size =
        size + random.Between(-1, 1) * random.Below(64) * CellModel::kCell;
    base_size = std::max(base_size, CellModel::kCell);
    base = co_await Layer(depth, base_size, content);
    offset_in_file_ = 0;
  }
  absl::StrAppend(&description_, ")");
  const int64_t cluster = int64_t{512} << random.Below(5);
  auto owned = std::make_unique<CowDriver>(cluster);
  CowDriver* driver = owned.get();
  NodeOptions options;
  options.unmap = true;
  options.detect_zeroes = static_cast<DetectZeroes>(PickDetectZeroes());
  Node* node = graph_.AddNode(options, std::move(owned));
  EXPECT_TRUE(node->AttachChild("file", ChildRole::kFile, file).ok());
  if (base != nullptr) {
    EXPECT_TRUE(node->AttachChild("backing", ChildRole::kBacking, base).ok());
  }
  driver->OpenWith(size);
  node->RefreshLimits();
  if (content && base_size < size) {
    co_await Fill(node, Range::FromTo(base_size, size));
  }
  co_return node;
}

Task<void> RandomGraph::Fill(Node* node, Range range) {
  std::string data = CellModel::Content(1, range);
  auto backend = Backend::Create("fill", node,
                                 {kConsistentRead | kWrite, kAllPermissions});
  EXPECT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((co_await (*backend)->Write(range.offset,
                                        IoView(data.data(), range.bytes)))
                .error(),
            0);
}

}  // namespace bgfs
