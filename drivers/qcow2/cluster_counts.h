// ClusterCounts: how often each host cluster of an image is referenced, for an
// image of any length.
//
// A count takes one byte, in chunks of 1024 clusters that exist only where
// something is counted, so that the memory goes with what is referenced and
// not with the length of a file that may be one great hole. The few counts that
// a byte does not hold are in a map of their own. Each cluster also has some
// flags, whose meaning is the owner's.
//
// Everything is taken from a budget that several share; when that is used up
// nothing more is counted, and the owner must look.

#ifndef BGFS_DRIVERS_QCOW2_CLUSTER_COUNTS_H_
#define BGFS_DRIVERS_QCOW2_CLUSTER_COUNTS_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"

namespace bgfs::qcow2 {

// Bytes that may be taken; one for all that count at the same time.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t bytes) : left_(bytes) {}

  // False, and for ever, when there is not so much left.
  bool Take(int64_t bytes) {
    left_ = bytes > left_ ? -1 : left_ - bytes;
    return left_ >= 0;
  }
  void GiveBack(int64_t bytes) {
    if (left_ >= 0) left_ += bytes;
  }
  bool exhausted() const { return left_ < 0; }

 private:
  int64_t left_;
};

class ClusterCounts {
 public:
  static constexpr int kFlags = 2;

  explicit ClusterCounts(MemoryBudget* budget) : budget_(budget) {}
  ClusterCounts(const ClusterCounts&) = delete;
  ClusterCounts& operator=(const ClusterCounts&) = delete;
  ~ClusterCounts() { Clear(); }

  // Clusters are numbered by their place in the file, from 0.
  void Add(int64_t cluster, uint64_t references);
  uint64_t Get(int64_t cluster) const;
  void SetFlag(int64_t cluster, int flag);
  bool HasFlag(int64_t cluster, int flag) const;

  // The first cluster from `from` on that is counted or flagged; -1 if there
  // is none.
  int64_t NextUsed(int64_t from) const;
  // After the last cluster that was counted.
  int64_t end() const { return end_; }
  void Clear();

 private:
  static constexpr int64_t kChunk = 1024;
  // In a chunk: look into the map.
  static constexpr uint8_t kLarge = 255;

  struct Chunk {
    std::array<uint8_t, kChunk> counts{};
    std::array<std::bitset<kChunk>, kFlags> flags;

    bool Used(size_t i) const {
      return counts[i] != 0 || flags[0][i] || flags[1][i];
    }
  };
  // What an element costs, with what the containers need beside it.
  static constexpr int64_t kChunkBytes = int64_t{sizeof(Chunk)} + 48;
  static constexpr int64_t kLargeBytes = 40;

  Chunk* Find(int64_t number) const;
  Chunk* FindOrAdd(int64_t number);

  MemoryBudget* const budget_;
  int64_t taken_ = 0;
  int64_t end_ = 0;
  absl::btree_map<int64_t, std::unique_ptr<Chunk>> chunks_;
  absl::flat_hash_map<int64_t, uint64_t> large_;
  // The chunk that was found last: neighbours are asked for in a row.
  mutable int64_t last_number_ = -1;
  mutable Chunk* last_ = nullptr;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CLUSTER_COUNTS_H_
