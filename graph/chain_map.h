// ChainMap: which layer of a chain decides what a guest's bytes are, so that a
// warm read costs the same over one layer and over sixty.
//
//   top ─▶ a ─▶ b ─▶ c ─▶ base         the map of top: [0, 64K) c, ...
//          └── skipped ─┘▲
//                        └── read here
//
// It is asked for what the node itself leaves to its backing layer. The chain
// is walked once for each granule of the disk (by block status, 2.9 in
// engine.md), the answer is remembered, and from then on the read goes to the
// edge that leads to that layer. What is remembered is a place to ask, not
// bytes: a layer that is read so looks up its own mapping as always.
//
// Only while no layer below can change: as soon as somebody holds WRITE,
// WRITE_UNCHANGED or RESIZE on one of them, every read walks through all layers
// again. A read counts as in flight on every layer that it skips.

#ifndef BGFS_GRAPH_CHAIN_MAP_H_
#define BGFS_GRAPH_CHAIN_MAP_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "graph/async/io_status.h"
#include "graph/async/io_view.h"
#include "graph/async/task.h"
#include "graph/node.h"
#include "graph/request.h"

namespace bgfs {

// Owned by the driver of `node`, used at its home.
class ChainMap {
 public:
  static constexpr int64_t kGranule = int64_t{64} << 10;
  // 2 bytes for each granule, in pages: 8 MiB at most, for 256 GiB of the disk.
  static constexpr int64_t kGranulesPerPage = 4096;
  static constexpr size_t kMaxPages = 1024;

  // `node` outlives it.
  explicit ChainMap(Node* node) : node_(node) {}
  ChainMap(const ChainMap&) = delete;
  ChainMap& operator=(const ChainMap&) = delete;
  // Nothing reads.
  ~ChainMap();

  // Held by whoever reads: meanwhile the layers keep their numbers.
  class Use {
   public:
    explicit Use(ChainMap* map) : map_(map), works_(map->Begin()) {}
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      if (works_) --map_->uses_;
    }
    // Else read through node.backing().
    bool works() const { return works_; }

   private:
    ChainMap* const map_;
    const bool works_;
  };

  // The layer that decides the range from its start on, and how much of it;
  // `bytes` 0: not known yet.
  struct Piece {
    size_t layer = 0;
    int64_t bytes = 0;
  };
  Piece Find(int64_t offset, int64_t bytes) const;
  // By walking down; never 0 bytes. `request` is the one that reads, on `node`.
  Task<IoResult<Piece>> Resolve(Request& request, int64_t offset,
                                int64_t bytes);
  // Reads from a layer.
  Task<IoStatus> Read(Request& request, size_t layer, int64_t offset,
                      IoView data);

  // Gives the memory back.
  void Forget();
  // Pages in memory.
  size_t pages() const { return pages_.size(); }

 private:
  using Page = std::array<uint16_t, kGranulesPerPage>;
  // Of a granule; else the number of its layer plus 1.
  static constexpr uint16_t kUnknown = 0;
  static constexpr uint16_t kMixed = 0xFFFF;  // several layers decide it

  class Skipping;

  bool Begin();
  void FollowChain();
  uint16_t Entry(int64_t granule) const;
  void Remember(int64_t first_granule, int64_t end_granule, uint16_t entry);
  Task<IoResult<Piece>> Walk(Request& request, int64_t offset, int64_t bytes);

  Node* const node_;
  int64_t uses_ = 0;
  int64_t rights_epoch_ = -1;   // of the graph, when the chain was followed
  bool steady_ = false;         // nobody may change a layer
  std::vector<Child*> layers_;  // the edges, from node_'s own down
  absl::flat_hash_map<int64_t, std::unique_ptr<Page>> pages_;
  std::deque<int64_t> oldest_;  // the pages in the order they came
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_CHAIN_MAP_H_
