// Check: whether the metadata of a qcow2 image fits together, and repair.
//
//   absl::StatusOr<CheckReport> report = co_await CheckImage(file);
//   if (report.ok() && report->corruptions() == 0) ...
//
// The reference count that the image stores of each cluster must be the number
// of references that there are: from the header, the L1 and L2 tables (also of
// snapshots), the refcount structures, the bitmaps and the encryption header.
// A count that is higher is a leak (space is lost, nothing else); one that is
// lower is corruption (the cluster may be given away while it is in use), and
// so is every entry that breaks a rule of the format.
//
// The judgement is that of `qemu-img check`; tests/README.md lists where the
// two differ. Guest data is not looked at, so that an encrypted image needs no
// key.

#ifndef BGFS_DRIVERS_QCOW2_CHECK_H_
#define BGFS_DRIVERS_QCOW2_CHECK_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "drivers/qcow2/types.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

enum class Repair : uint8_t {
  kNone,
  kLeaks,  // lowers counts that are too high
  kAll,    // makes counts and flags right
  // Either clears the dirty and the corrupt mark when no corruption is left.
};

enum class FindingKind : uint8_t {
  kLeak,              // a stored count is higher than the references
  kRefcountTooLow,    // ... lower
  kRefcountOverflow,  // more references than a count of this width holds
  kRefcountTable,     // the refcount table or one of its entries is broken
  kCopiedSet,         // COPIED is set, and the count is not 1
  kCopiedClear,       // COPIED is clear, and the count is 1
  kReservedBits,      // an entry has bits set that must be 0
  kMisaligned,        // an offset is not that of a cluster
  kOutOfFile,         // an offset leads out of the file
  kOverlap,           // metadata lies where something else lies
  kBadEntry,          // an entry says what cannot be
  kSnapshot,          // an entry of the snapshot table is broken
  kMarkedDirty,       // the image says that its counts may be wrong
  kMarkedCorrupt,     // the image says that it was found corrupt
};
inline constexpr int kFindingKinds = 14;

// "leak", "refcount too low", ...
absl::string_view NameOf(FindingKind kind);

struct Finding {
  FindingKind kind = FindingKind::kLeak;
  HostOffset at;     // the cluster it is about
  std::string text;  // one phrase
};

// What a check found and, after a repair, what remains.
struct CheckReport {
  // Of so many findings the text is kept.
  static constexpr size_t kMaxFindings = 1000;

  std::array<int64_t, kFindingKinds> counts{};
  std::vector<Finding> findings;

  // What a repair has mended, as counted before it.
  int64_t leaks_fixed = 0;
  int64_t corruptions_fixed = 0;

  // Of the guest's disk, in clusters.
  int64_t total_clusters = 0;
  int64_t allocated_clusters = 0;
  int64_t compressed_clusters = 0;
  // After the last cluster in use.
  HostOffset image_end;

  int64_t count(FindingKind kind) const {
    return counts[static_cast<size_t>(kind)];
  }
  int64_t leaks() const { return count(FindingKind::kLeak); }
  // All but leaks and marks: a mark alone is no damage.
  int64_t corruptions() const;
  bool clean() const { return leaks() == 0 && corruptions() == 0; }
  void Forget(FindingKind kind);
};

// How far a check has come, of `total`. Called often.
using CheckProgress = absl::AnyInvocable<void(int64_t done, int64_t total)>;

// Checks the image in `file`, at home. Nobody else may have it open; a repair
// needs the rights to write and to resize. Errors are one phrase without the
// file's name: InvalidArgument or Unimplemented where this is no image that
// could be checked, ResourceExhausted where that takes more than 256 MiB of
// memory, or what reading and writing met.
Task<absl::StatusOr<CheckReport>> CheckImage(Child& file,
                                             Repair repair = Repair::kNone,
                                             CheckProgress progress = nullptr);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CHECK_H_
