// L2Cache: the L2 tables of an image, in memory, a slice at a time.
//
// A slice is 4 KiB of an L2 table (the whole table where clusters are smaller),
// an array of 64-bit entries in the machine's byte order, aligned so that each
// entry could be read atomically. Slices stand in one region of memory of a
// fixed number of slots; the least recently used makes room.
//
//   Find() ── cached ──▶ entries, good until the next co_await
//     └─ not cached: co_await Load(), then Find() again
//
// So nobody holds a slice across a co_await, and eviction needs no pins.
// Concurrent loads of one slice share one read. What is read goes into a slot
// only when it has arrived.
//
// Entries are changed in memory (Change()) and written back by writeback.h: a
// slice that was changed is dirty and stays, whatever else needs room, until
// the state that CopyDirty() gave is on the disk. At most DirtyLimit() slices
// are dirty; who wants to change one more writes back first.

#ifndef BGFS_DRIVERS_QCOW2_L2_CACHE_H_
#define BGFS_DRIVERS_QCOW2_L2_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "drivers/qcow2/types.h"
#include "graph/async/buffer.h"
#include "graph/async/sync.h"
#include "graph/node.h"
#include "graph/statistics.h"

namespace bgfs::qcow2 {

// Owned by the driver of the image, used at its home only.
class L2Cache {
 public:
  static constexpr int64_t kMaxSliceBytes = 4096;

  // For an image of `tables` L2 tables in `file`, which outlives the cache;
  // keeps at most `max_bytes` of them, but at least one slice.
  // `writable`: entries will be changed; there is room for a few slices at
  // least.
  L2Cache(Child* file, Geometry geometry, int64_t tables, int64_t max_bytes,
          bool writable = false);
  L2Cache(const L2Cache&) = delete;
  L2Cache& operator=(const L2Cache&) = delete;
  ~L2Cache();  // nothing is being loaded

  int64_t slice_entries() const { return slice_entries_; }
  // Where the slice that holds an entry of `table` begins.
  HostOffset SliceOf(HostOffset table, L2Index index) const {
    return table + AlignDown(index.value(), slice_entries_) * kEntryBytes;
  }

  // The entries of a slice, or nothing if it is not cached.
  absl::Span<const uint64_t> Find(HostOffset slice);
  // Reads a slice on behalf of `request`. Another may evict it right after.
  Task<IoStatus> Load(Request& request, HostOffset slice);

  // Whether Change() may be called for a slice that is cached.
  bool MayChange(HostOffset slice) const;
  // The entries of a slice that is cached and may be changed; it is dirty from
  // now on.
  absl::Span<uint64_t> Change(HostOffset slice);

  // A dirty slice as it stood at some moment, as it goes to the disk.
  struct Copy {
    HostOffset slice;
    int64_t version = 0;
    AlignedBuffer big_endian;
  };
  // Copies of all dirty slices, in the order of the file. ENOMEM.
  IoResult<std::vector<Copy>> CopyDirty() const;
  // The copy is on the disk: the slice is clean unless it has changed since.
  void Written(const Copy& copy);

  // What stands in the file where `table` begins has become another table:
  // forgets its slices, dirty or not, and those being read.
  void Forget(HostOffset table);
  // Forgets everything that is not dirty, and gives the memory back.
  void Clear();
  int64_t capacity() const { return capacity_; }  // slices
  int64_t cached() const { return static_cast<int64_t>(index_.size()); }
  int64_t dirty() const { return dirty_; }  // slices
  int64_t DirtyLimit() const;
  // A lookup that had to wait for a slice is a miss, and no hit when it looks
  // again.
  CacheStatistics statistics() const;

 private:
  static constexpr int64_t kEntryBytes = sizeof(uint64_t);
  static constexpr int kNone = -1;

  // Clean ones are in the order of use, a list by slot number.
  struct Slot {
    HostOffset slice;
    int newer = kNone;
    int older = kNone;
    bool dirty = false;
    int64_t version = 0;  // of the content; never the same again
  };
  struct Loading {
    WaitQueue waiters;
    IoStatus status;
    bool stale = false;  // the slice was forgotten meanwhile
  };

  uint64_t* EntriesOf(int slot) const;
  int TakeSlot();
  void Free(int slot);
  void Unlink(int slot);
  void LinkNewest(int slot);
  void Insert(HostOffset slice, const char* big_endian);
  Task<IoStatus> ReadSlice(Request& request, HostOffset slice,
                           const Loading& loading);

  Child* const file_;
  const int64_t table_bytes_;
  const int64_t slice_entries_;
  const int64_t capacity_;
  char* region_ = nullptr;   // capacity_ slices
  std::vector<Slot> slots_;  // those used so far
  std::vector<int> free_slots_;
  int64_t dirty_ = 0;
  int64_t next_version_ = 1;
  int64_t found_ = 0;  // slices, by Find()
  int64_t misses_ = 0;
  int64_t evictions_ = 0;
  int newest_ = kNone;
  int oldest_ = kNone;
  absl::flat_hash_map<int64_t, int> index_;  // slice offset → slot
  absl::flat_hash_map<int64_t, std::shared_ptr<Loading>> loading_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_L2_CACHE_H_
