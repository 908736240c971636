#include "graph/chain_map.h"

#include <algorithm>
#include <utility>

#include "graph/async/check.h"
#include "graph/graph.h"
#include "graph/permissions.h"

namespace bgfs {
namespace {

// How much of the disk one walk asks about: status walks a layer's tables, and
// others wait for the loop.
constexpr int64_t kWalkBytes = int64_t{16} << 20;

constexpr Permissions kChanges = kWrite | kWriteUnchanged | kResize;

}  // namespace

// Being in flight on the layers above `layer`.
class ChainMap::Skipping {
 public:
  Skipping(const std::vector<Child*>& layers, size_t layer)
      : layers_(layers), layer_(layer) {
    for (size_t i = 0; i < layer_; ++i) layers_[i]->node().in_flight().Begin();
  }
  Skipping(const Skipping&) = delete;
  Skipping& operator=(const Skipping&) = delete;
  ~Skipping() {
    for (size_t i = 0; i < layer_; ++i) layers_[i]->node().in_flight().End();
  }

 private:
  const std::vector<Child*>& layers_;
  const size_t layer_;
};

ChainMap::~ChainMap() { BGFS_CHECK(uses_ == 0); }

bool ChainMap::Begin() {
  // While somebody reads, the layers keep their numbers; those that come
  // meanwhile go through all layers.
  const int64_t epoch = node_->graph().rights_epoch();
  if (rights_epoch_ != epoch && uses_ == 0) FollowChain();
  if (!steady_ || rights_epoch_ != epoch) return false;
  ++uses_;
  return true;
}

void ChainMap::FollowChain() {
  Forget();
  layers_.clear();
  rights_epoch_ = node_->graph().rights_epoch();
  steady_ = true;
  for (Child* edge = node_->backing(); edge != nullptr;
       edge = edge->node().backing()) {
    layers_.push_back(edge);
    if ((UsersOf(edge->node()).used & kChanges) != 0) steady_ = false;
  }
  // Over one layer there is nothing to skip.
  if (layers_.size() < 2 || layers_.size() >= kMixed - 1) steady_ = false;
}

void ChainMap::Forget() {
  pages_.clear();
  oldest_.clear();
}

uint16_t ChainMap::Entry(int64_t granule) const {
  const auto page = pages_.find(granule / kGranulesPerPage);
  if (page == pages_.end()) return kUnknown;
  return (*page->second)[static_cast<size_t>(granule % kGranulesPerPage)];
}

void ChainMap::Remember(int64_t first_granule, int64_t end_granule,
                        uint16_t entry) {
  for (int64_t granule = first_granule; granule < end_granule; ++granule) {
    auto& page = pages_[granule / kGranulesPerPage];
    if (page == nullptr) {
      page = std::make_unique<Page>();
      oldest_.push_back(granule / kGranulesPerPage);
    }
    (*page)[static_cast<size_t>(granule % kGranulesPerPage)] = entry;
  }
  while (pages_.size() > kMaxPages) {
    pages_.erase(oldest_.front());
    oldest_.pop_front();
  }
}

ChainMap::Piece ChainMap::Find(int64_t offset, int64_t bytes) const {
  int64_t granule = offset / kGranule;
  const uint16_t entry = Entry(granule);
  if (entry == kUnknown || entry == kMixed) return {};
  do {
    ++granule;
  } while (granule * kGranule < offset + bytes && Entry(granule) == entry);
  return {size_t{entry} - 1, std::min(bytes, granule * kGranule - offset)};
}

Task<IoResult<ChainMap::Piece>> ChainMap::Resolve(Request& request,
                                                  int64_t offset,
                                                  int64_t bytes) {
  const int64_t granule = offset / kGranule;
  if (Entry(granule) == kMixed) co_return co_await Walk(request, offset, bytes);
  const int64_t start = granule * kGranule;
  const IoResult<Piece> found = co_await Walk(request, start, kWalkBytes);
  if (!found.ok()) co_return found.status();
  const int64_t end = start + found->bytes;
  const int64_t whole = found->bytes / kGranule;
  if (whole > 0) {
    Remember(granule, granule + whole, static_cast<uint16_t>(found->layer + 1));
  } else {
    Remember(granule, granule + 1, kMixed);
  }
  if (end > offset) {
    co_return Piece{found->layer, std::min(bytes, end - offset)};
  }
  co_return co_await Walk(request, offset, bytes);
}

Task<IoResult<ChainMap::Piece>> ChainMap::Walk(Request& request, int64_t offset,
                                               int64_t bytes) {
  size_t layer = 0;
  // The last layer decides whatever is left; one that ends above the range
  // makes it read as zeros.
  for (; layer + 1 < layers_.size() && offset < layers_[layer]->size();
       ++layer) {
    const IoResult<BlockStatus> status = co_await layers_[layer]->Status(
        &request, offset, bytes, /*precise=*/false);
    if (!status.ok()) co_return status.status();
    bytes = std::min(bytes, status->bytes);
    if ((status->flags & BlockStatus::kAllocated) != 0) break;
  }
  co_return Piece{layer, bytes};
}

Task<IoStatus> ChainMap::Read(Request& request, size_t layer, int64_t offset,
                              IoView data) {
  const Skipping skipping(layers_, layer);
  co_return co_await layers_[layer]->Read(&request, offset, data);
}

}  // namespace bgfs
