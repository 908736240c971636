// Mapping: where the bytes of the guest's disk are ("Cluster mapping").
//
// The L1 table is in memory (at most 32 MiB, as ParseHeader has checked), the
// L2 tables come through the cache. A lookup gives the longest run that can be
// treated as one: clusters of one kind, and for data also one piece of the
// file, across L2 tables.
//
// What an entry says is not trusted: one that breaks a rule of the format or
// leads out of the file makes the lookup fail with EIO, and is reported.

#ifndef BGFS_DRIVERS_QCOW2_MAPPING_H_
#define BGFS_DRIVERS_QCOW2_MAPPING_H_

#include <cstdint>
#include <string>
#include <vector>

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
  // kUnallocated, kZero, kStandard or kCompressed; the last is one cluster.
  ClusterKind kind = ClusterKind::kUnallocated;
  GuestOffset start;
  int64_t bytes = 0;
  // kStandard: where `start` lies in the file. kCompressed: where the data of
  // the whole cluster begins, and an upper bound of its length.
  HostOffset host;
  int64_t compressed_bytes = 0;
};

// Owned by the driver of the image, used at its home only.
class Mapping {
 public:
  // Told of damaged places (the first ones), in one line: "the image is damaged
  // at guest offset 65536: its L2 entry has reserved bits set". May be empty.
  using Report = absl::AnyInvocable<void(absl::string_view)>;

  // `file` outlives this.
  Mapping(const Header& header, Child* file, int64_t l2_cache_bytes,
          Report report);

  // Reads the L1 table. Before any lookup.
  Task<IoStatus> Load();

  // The run that begins at `start`, at most `bytes` > 0 long, never empty. The
  // range lies inside the disk. Errors: EIO for damage, or what reading a
  // table met.
  Task<IoResult<Extent>> Lookup(Request& request, GuestOffset start,
                                int64_t bytes);

  // Reports damage at `at`; gives EIO.
  IoStatus Fault(GuestOffset at, absl::string_view fault);

  L2Cache& l2_cache() { return l2_cache_; }

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
  const HostOffset l1_table_;
  std::vector<uint64_t> l1_;  // the machine's byte order
  L2Cache l2_cache_;
  Report report_;
  int reports_ = 0;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_MAPPING_H_
