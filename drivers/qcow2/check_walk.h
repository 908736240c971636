// The first pass of a check: follows everything in the image that points to
// host clusters, counts the references, and judges each entry on the way.
//
// All metadata is marked before any data is counted, so that whatever lies on
// it is seen. An L2 table is read once, however many L1 entries lead to it, and
// its references count so often: the work goes with the size of the file, also
// for a thousand snapshots, and for garbage.
//
// An entry that breaks a rule is reported, and what it points to is counted all
// the same where that can be told: a repair must not free what somebody may
// still want to save.

#ifndef BGFS_DRIVERS_QCOW2_CHECK_WALK_H_
#define BGFS_DRIVERS_QCOW2_CHECK_WALK_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "drivers/qcow2/bitmap_directory.h"
#include "drivers/qcow2/check_context.h"
#include "drivers/qcow2/snapshot_table.h"

namespace bgfs::qcow2 {

class ReferenceWalk {
 public:
  // `context` outlives this.
  explicit ReferenceWalk(CheckContext* context) : c_(*context) {}

  // Fills `references` and `l2_tables` of the context. Without
  // `refcount_structures` the refcount table and its blocks do not count: they
  // are about to be replaced.
  Task<absl::Status> Run(bool refcount_structures);

 private:
  struct Area {
    uint64_t at;
    uint64_t bytes;
    uint64_t weight = 1;
    bool metadata = false;
    const char* what;  // "the L1 table"
  };

  // Counts an area, or reports that it is not in the file.
  void Count(const Area& area);
  void CountMetadata(uint64_t at, uint64_t bytes, const char* what) {
    Count({at, bytes, 1, true, what});
  }
  Task<IoStatus> CountRefcountStructures();
  void JudgeRefcountStructures();
  Task<absl::Status> CountSnapshots();
  Task<IoStatus> CountL1(HostOffset table, int64_t entries, bool active);
  void CountL1Entry(uint64_t raw, HostOffset table, int64_t index, bool active);
  void CountL2Table(HostOffset table, absl::Span<const uint64_t> words);
  void CountCompressed(uint64_t raw, uint64_t subclusters, HostOffset entry,
                       uint64_t weight);
  void CountStandard(uint64_t raw, uint64_t subclusters, HostOffset entry,
                     uint64_t weight);
  Task<IoStatus> CountBitmapData(const std::vector<BitmapEntry>& bitmaps);
  void CountBitmapTableEntry(uint64_t raw, HostOffset entry);

  CheckContext& c_;
  // Read so far, to tell L1 tables that overlap each other.
  int64_t l1_bytes_ = 0;
};

// Reads the L2 tables of the context in the order in which they lie in the
// file, only those of the active L1 table if `active_only`. Each is shown to
// `visit`, which may change it and returns whether it did; then it is written
// back, unless something else lies there, too.
using VisitL2Table =
    absl::FunctionRef<bool(HostOffset table, absl::Span<uint64_t> words)>;
Task<IoStatus> ForEachL2Table(CheckContext& context, bool active_only,
                              VisitL2Table visit);

// The same for the entries of a table of 64-bit words; `index` is that of the
// first word shown.
using VisitWords =
    absl::FunctionRef<bool(int64_t index, absl::Span<uint64_t> words)>;
Task<IoStatus> ForEachWord(CheckContext& context, HostOffset table,
                           int64_t entries, VisitWords visit);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CHECK_WALK_H_
