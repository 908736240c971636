// Refcounts: how many references each cluster of the image file has ("Host
// cluster management"). Two levels:
//
//   refcount table   one 64-bit entry per block, in one piece; in memory
//   refcount block   one cluster of counts of 2^refcount_order bits; cached
//
// A cluster that no block covers has no reference. Counts are raised in memory
// when a cluster is taken and lowered only after nothing durable refers to it
// any more, so that a block may be written at any moment: what it holds is
// never too low. What it must not miss are the counts of clusters that are
// referred to afterwards; writeback.h sees to that.
//
// A new block lies in the first cluster of those that it is made for, and
// counts itself. A table that is full moves: the new one lies behind the block
// that did not fit, and is the image's when the header says so.
//
// Everything but what writeback.h calls is called under the allocator's mutex,
// so that a block that was required stays until the caller has ended.

#ifndef BGFS_DRIVERS_QCOW2_REFCOUNTS_H_
#define BGFS_DRIVERS_QCOW2_REFCOUNTS_H_

#include <cstdint>
#include <list>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/header_file.h"
#include "drivers/qcow2/metadata_map.h"
#include "drivers/qcow2/types.h"
#include "graph/async/buffer.h"
#include "graph/node.h"
#include "graph/statistics.h"

namespace bgfs::qcow2 {

// Owned by the driver of a writable image, used at its home only.
class Refcounts {
 public:
  // All outlive this.
  Refcounts(const Header& header, Child* file, HeaderFile* header_file,
            MetadataMap* metadata);

  // Reads the table, which OpenForWriting() has checked. Before all else.
  Task<IoStatus> Load();

  int64_t BlockOf(HostCluster cluster) const {
    return cluster.value() >> entries_bits_;
  }
  HostCluster StartOfBlock(int64_t block) const {
    return HostCluster(block << entries_bits_);
  }
  bool HasBlock(int64_t block) const {
    return block < static_cast<int64_t>(table_.size()) &&
           table_[static_cast<size_t>(block)] != 0;
  }

  // Makes a block that there is cached. EIO for damage, or what reading met.
  Task<IoStatus> Require(int64_t block);
  // Of clusters whose block is cached.
  uint64_t Get(HostCluster cluster) const;
  void Set(HostCluster cluster, uint64_t count);
  // The first clusters without a reference at or after `from`, `most` at most,
  // within the cached block of `from`; empty if there are none.
  HostRun FindFree(HostCluster from, int64_t most) const;

  // Makes a block for the region of `at`, which has none, in `at` itself, and
  // moves the table behind it if it is full. Gives the first cluster after
  // both. ENOSPC where the format ends, or what writing met.
  Task<IoResult<HostCluster>> AddBlock(HostCluster at);
  // Makes block `block` in `at`, a free cluster that another block counts. Only
  // while the table has room for it.
  bool MayAddBlock(int64_t block) const {
    return block < static_cast<int64_t>(table_.size()) && !HasBlock(block);
  }
  Task<IoStatus> AddBlock(int64_t block, HostCluster at);

  // --- For writeback.h ---

  struct Copy {
    int64_t block = 0;
    int64_t version = 0;
    HostOffset at;
    AlignedBuffer bytes;
  };
  // What has changed of the blocks, as it stands now. ENOMEM.
  IoResult<std::vector<Copy>> CopyDirty() const;
  void Durable(const Copy& copy);
  bool changed() const {
    return dirty_ > 0 || table_at_ != header_table_at_ || !new_entries_.empty();
  }
  // So many are dirty that they should be written back.
  bool pressed() const { return dirty_ > capacity_ / 2; }
  // How many may be changed before that is asked again.
  int64_t BlocksAtOnce() const { return static_cast<int64_t>(capacity_ / 4); }

  // Changes of the table since the last call. Blocks that it names are
  // written, though not durable.
  struct TableChange {
    bool moved = false;
    HostOffset table;  // where it stands now
    int64_t clusters = 0;
    std::vector<int64_t> entries;  // new ones, to be written there
    bool empty() const { return !moved && entries.empty(); }
  };
  TableChange TakeTableChange();
  void PutBack(const TableChange& change);
  // Writes the new entries of `change`.
  Task<IoStatus> WriteEntries(const TableChange& change);
  // The header tells of the table of `change`. Gives the tables before it,
  // which are free once that is durable.
  std::vector<HostRun> Moved(const TableChange& change);

  // Gives memory back; under the mutex.
  void DropClean();
  CacheStatistics statistics() const {
    return {"refcounts", hits_, misses_, evictions_};
  }

 private:
  struct Block {
    int64_t index = 0;
    HostOffset at;
    AlignedBuffer bytes;  // as in the file
    int64_t version = 0;
    int64_t dirty_from = 0;  // a range of bytes; empty: clean
    int64_t dirty_to = 0;
    bool dirty() const { return dirty_from < dirty_to; }
  };
  using Blocks = std::list<Block>;

  const Block& Cached(int64_t index) const;
  int64_t IndexIn(HostCluster cluster) const {
    return cluster.value() & ((int64_t{1} << entries_bits_) - 1);
  }
  // Gives how many that were.
  int64_t EvictTo(size_t blocks);
  void Keep(Block block);
  Task<IoStatus> CheckEntry(int64_t block);
  Task<IoStatus> WriteBlock(const Block& block);
  Task<IoStatus> Publish(Block block);
  // What has no count may hold metadata all the same, in a damaged image.
  Task<IoStatus> CheckFree(HostRun run);
  IoResult<Block> NewBlock(int64_t index, HostCluster at) const;
  Task<IoResult<HostCluster>> MoveTable(HostCluster at);
  // How a moved table and the blocks that count it lie from `at` on.
  struct Layout {
    int64_t blocks = 1;
    int64_t table_clusters = 0;
    int64_t total() const { return blocks + table_clusters; }
  };
  Layout LayOut(HostCluster at) const;
  Task<IoStatus> WriteTable(HostOffset at, std::vector<uint64_t> table);

  const Geometry geometry_;
  const int order_;
  const int entries_bits_;  // log2 of the counts in a block
  const size_t capacity_;   // blocks
  Child* const file_;
  HeaderFile* const header_file_;
  MetadataMap* const metadata_;

  std::vector<uint64_t> table_;  // the machine's byte order
  HostOffset table_at_;
  HostOffset header_table_at_;  // what the header in the file tells
  int64_t header_table_clusters_;
  absl::btree_set<int64_t> new_entries_;
  // Tables that were left before the header told of them.
  std::vector<HostRun> superseded_;

  mutable Blocks blocks_;  // the most recently used first
  absl::flat_hash_map<int64_t, Blocks::iterator> index_;
  size_t dirty_ = 0;
  int64_t next_version_ = 1;
  int64_t hits_ = 0;
  int64_t misses_ = 0;
  int64_t evictions_ = 0;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_REFCOUNTS_H_
