// Allocator: hands out clusters of the image file, and takes them back.
//
//   free ──Allocate()──▶ taken, count 1 ──FreeLater()──▶ freed ──▶ free
//     ▲                     │                     once what stopped referring
//     └──────Undo()─────────┘                     to it is durable: Release()
//
// The refcounts are the truth about what is free; the allocator remembers the
// runs that were given back, and how far it has looked (the frontier), so that
// it need not search. Runs that are long enough come first, then the frontier,
// so that data which is written in order lies in order.
//
// The file is made longer ahead of its use, in large steps: clusters handed
// out lie inside it, and writes to them need not wait for each other. What was
// added and not yet used reads as zeros (Space::zero); what lay in the file
// when it was opened may hold anything.

#ifndef BGFS_DRIVERS_QCOW2_ALLOCATOR_H_
#define BGFS_DRIVERS_QCOW2_ALLOCATOR_H_

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "drivers/qcow2/header_file.h"
#include "drivers/qcow2/metadata_map.h"
#include "drivers/qcow2/refcounts.h"
#include "drivers/qcow2/types.h"
#include "graph/async/sync.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// Owned by the driver of a writable image, used at its home only.
class Allocator {
 public:
  // All outlive this. `punch`: clusters that become free are given back to the
  // host.
  Allocator(Geometry geometry, Child* file, Refcounts* refcounts,
            MetadataMap* metadata, HeaderFile* header_file, bool punch);

  struct Space {
    HostRun run;
    bool zero = false;  // reads as zeros
  };
  // Takes one to `clusters` clusters that lie side by side. ENOSPC, EIO for
  // damage, or what reading or growing met.
  Task<IoResult<Space>> Allocate(int64_t clusters);
  // Takes exactly `clusters`.
  Task<IoResult<HostRun>> AllocateWhole(int64_t clusters);
  // Of clusters that nothing ever referred to: free again at once.
  Task<void> Undo(HostRun run);

  // One reference to each of these goes, with what is changed in memory now.
  void FreeLater(HostRun run);
  // What was freed since the last call; Release() it once the changes are
  // durable, or PutBack().
  std::vector<HostRun> TakeFreed();
  void PutBack(const std::vector<HostRun>& runs);
  bool has_freed() const { return !freed_.empty(); }
  // So much was freed that it should be written back.
  bool pressed() const;
  // Lowers the counts; what has no reference left is punched, and then free.
  Task<void> Release(std::vector<HostRun> runs);

  // Cuts off what the file was made longer and never used. At the end.
  Task<void> TrimFile();

 private:
  Task<IoResult<HostRun>> Find(int64_t clusters);
  Task<IoResult<HostRun>> FindKnown(int64_t clusters);
  Task<IoResult<HostRun>> FindFurther(int64_t clusters);
  Task<IoResult<HostRun>> FindWhole(int64_t clusters);
  Task<IoStatus> Take(HostRun run);
  Task<IoStatus> LengthenTo(HostCluster end);
  Task<IoStatus> SetCounts(HostRun run, uint64_t count);
  void Remember(HostRun run);
  // Lowers the counts of those that keep a reference; gives the others.
  Task<std::vector<HostRun>> LowerShared(std::vector<HostRun> runs);

  const Geometry geometry_;
  Child* const file_;
  Refcounts* const refcounts_;
  MetadataMap* const metadata_;
  HeaderFile* const header_file_;
  const bool punch_;
  const int64_t opened_bytes_;  // of the file

  Mutex mutex_;
  absl::btree_map<HostCluster, int64_t> known_;  // free runs, hints
  HostCluster frontier_;                         // looked at so far
  HostCluster unused_;  // from here on the file has never been used
  std::vector<HostRun> freed_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_ALLOCATOR_H_
