// Mapping: where the bytes of the guest's disk are ("Cluster mapping").
//
// The L1 table is in memory (at most 32 MiB, as ParseHeader has checked), the
// L2 tables come through the cache. A lookup gives the longest run that can be
// treated as one: clusters of one kind, and for data also one piece of the
// file, across L2 tables.
//
// What an entry says is not trusted: one that breaks a rule of the format or
// leads out of the file makes the lookup fail with EIO, and is reported.
//
// Of a writable image the tables are changed in memory, here and in the cache,
// and reach the disk through writeback.h.

#ifndef BGFS_DRIVERS_QCOW2_MAPPING_H_
#define BGFS_DRIVERS_QCOW2_MAPPING_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "drivers/qcow2/entries.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/l2_cache.h"
#include "drivers/qcow2/types.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// A run of the guest's disk.
struct Extent {
  // Never kFault; kCompressed is one cluster.
  ClusterKind kind = ClusterKind::kUnallocated;
  // kStandard, kZeroAllocated: nothing else refers to the host clusters.
  bool copied = false;
  GuestOffset start;
  int64_t bytes = 0;
  // kStandard, kZeroAllocated: where `start` lies in the file. kCompressed:
  // where the data of the whole cluster begins, and an upper bound of its
  // length.
  HostOffset host;
  int64_t compressed_bytes = 0;

  bool has_data() const {
    return kind == ClusterKind::kStandard || kind == ClusterKind::kCompressed;
  }
  // Whether the guest's bytes may be overwritten where they are.
  bool in_place() const { return kind == ClusterKind::kStandard && copied; }
};

// Owned by the driver of the image, used at its home only.
class Mapping {
 public:
  // Told of damaged places (the first ones), in one line: "the image is damaged
  // at guest offset 65536: its L2 entry has reserved bits set". May be empty.
  using Report = absl::AnyInvocable<void(absl::string_view)>;

  // `file` outlives this.
  Mapping(const Header& header, Child* file, int64_t l2_cache_bytes,
          bool writable, Report report);

  // Reads the L1 table. Before any lookup.
  Task<IoStatus> Load();

  // The run that begins at `start`, at most `bytes` > 0 long, never empty. The
  // range lies inside the disk. Errors: EIO for damage, or what reading a
  // table met.
  Task<IoResult<Extent>> Lookup(Request& request, GuestOffset start,
                                int64_t bytes);

  // Reports damage at `at`; gives EIO.
  IoStatus Fault(GuestOffset at, absl::string_view fault);
  // Called when an entry breaks a rule of the format. Must not wait.
  void SetOnBrokenEntry(absl::AnyInvocable<void()> on_broken_entry) {
    on_broken_entry_ = std::move(on_broken_entry);
  }

  L2Cache& l2_cache() { return l2_cache_; }

  // The L1 table: its place, and how many entries it has in memory.
  HostOffset l1_table() const { return l1_table_; }
  int64_t l1_entries() const { return static_cast<int64_t>(l1_.size()); }
  L1Entry Table(L1Index index) const {
    return DecodeL1Entry(l1_[static_cast<size_t>(index.value())], geometry_);
  }
  // Why the table that an L1 entry gives cannot be used, or null.
  const char* FaultOf(const L1Entry& table) const;

  // From now on `table`, to which nothing else refers, describes its part of
  // the disk.
  void SetTable(L1Index index, HostOffset table);

  // An L1 entry that changed, as it goes to the disk.
  struct L1Change {
    L1Index index;
    uint64_t raw = 0;
  };
  bool l1_changed() const { return !changed_.empty(); }
  // The entries that changed since the last call, by index.
  std::vector<L1Change> TakeL1Changes();
  // They could not be written.
  void PutBack(const std::vector<L1Change>& changes);
  // The L1 table as it stands, for another place with room for `entries`.
  std::vector<uint64_t> CopyL1(int64_t entries) const;
  // It is there now; the new entries are empty.
  void MoveL1(HostOffset l1_table, int64_t entries);

 private:
  // What one step of a lookup found: an extent, or a slice to load, or damage.
  struct Step {
    Extent extent;
    HostOffset missing_slice;  // 0: none
    const char* fault = nullptr;
  };

  Step Look(GuestOffset at, int64_t bytes);
  Step LookInSlice(absl::Span<const uint64_t> entries, GuestOffset at,
                   int64_t bytes) const;
  Extent Describe(const L2Entry& entry, GuestOffset at) const;
  const char* FaultOf(const L2Entry& entry) const;

  Child* const file_;
  const Geometry geometry_;
  const bool zero_flag_;
  HostOffset l1_table_;
  std::vector<uint64_t> l1_;          // the machine's byte order
  absl::btree_set<int64_t> changed_;  // indices into it
  L2Cache l2_cache_;
  Report report_;
  absl::AnyInvocable<void()> on_broken_entry_;
  int reports_ = 0;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_MAPPING_H_
