// Writeback: brings what was changed in memory to the image file, in an order
// in which the power may fail at any moment (shared by every change of
// metadata; the header's own changes are in resize.cc and below).
//
// A write puts its data into new clusters, and then changes entries in memory.
// Some time later, at a guest's flush or because too much waits, Commit() does:
//
//   1  copies the changed L2 slices and L1 entries, and takes what was freed
//   2  writes the refcount blocks (and entries of a refcount table that the
//      header does not tell of yet)
//   3  flushes the file: the data, all that 1 refers to and its counts are
//      durable
//   4  if there are new refcount blocks: writes their entries in the refcount
//      table, or the header if the table has moved; flushes
//   5  writes the copies of 1
//   6  with the next flush they are durable, and what was freed may be lowered,
//      punched and used again
//
// So a reference is written after what it refers to is durable, and N
// allocations between two flushes of the guest cost two flushes of the file
// (three with 4): the last one is the flush that the engine sends to the file
// in any case, after which it calls AfterFlush(). What is set in memory after 1
// stays behind; nothing has to wait for a commit.
//
// An L2 table is written when it is made, empty or as a copy, so that an L1
// entry which becomes durable before the slices of 5 shows what was there
// before, never garbage.
//
// Lowered counts are written by the next commit, whenever that is, or when they
// fill the cache: too high is a leak, and allowed.
//
// One commit runs at a time. If one fails, all that it did not write is changed
// still, and the next one tries again.

#ifndef BGFS_DRIVERS_QCOW2_WRITEBACK_H_
#define BGFS_DRIVERS_QCOW2_WRITEBACK_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "drivers/qcow2/allocator.h"
#include "drivers/qcow2/header_file.h"
#include "drivers/qcow2/mapping.h"
#include "drivers/qcow2/metadata_map.h"
#include "drivers/qcow2/refcounts.h"
#include "graph/async/sync.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// Owned by the driver of a writable image, used at its home only.
class Writeback {
 public:
  struct Parts {
    Child* file;
    Mapping* mapping;
    Refcounts* refcounts;
    Allocator* allocator;
    MetadataMap* metadata;
    HeaderFile* header_file;
  };
  // All outlive this.
  Writeback(Geometry geometry, Parts parts)
      : geometry_(geometry), parts_(parts) {}

  // Whether entries wait to be written.
  bool needed() const {
    return parts_.mapping->l2_cache().dirty() > 0 ||
           parts_.mapping->l1_changed() || parts_.allocator->has_freed() ||
           parts_.header_file->unsettled();
  }
  // Whether so much waits that no more should be changed before a commit.
  bool pressed() const { return parts_.allocator->pressed(); }
  // Whether a commit with a flush may give space back.
  bool has_freed() const {
    return parts_.allocator->has_freed() || !awaiting_.empty();
  }

  // Steps 1 to 5. Errors: what writing or flushing met.
  Task<IoStatus> Commit();
  // The next flush of the file makes durable all that was committed until now:
  // AfterFlush() tells of its end. One at a time.
  void FlushFollows() { covered_ = awaiting_.size(); }
  Task<void> AfterFlush();
  // All steps.
  Task<IoStatus> CommitAndFlush();
  // All steps, and lowered counts too: for closing.
  Task<IoStatus> Finish();

  // Gives the L1 table another place, `to`, with room for `entries`. If that
  // fails, `to` may be freed later.
  Task<IoStatus> MoveL1(HostRun to, int64_t entries);

 private:
  // What one commit carries.
  struct Batch {
    std::vector<L2Cache::Copy> slices;
    std::vector<Mapping::L1Change> l1;
    std::vector<HostRun> freed;
  };

  Task<IoStatus> CommitLocked();
  Task<IoStatus> WriteBatch(Batch* batch);
  // Steps 2 to 4. Tables that are replaced are added to `freed`.
  Task<IoStatus> WriteRefcounts(std::vector<HostRun>* freed);
  Task<IoStatus> PublishBlocks(const Refcounts::TableChange& change,
                               std::vector<HostRun>* freed);
  Task<IoStatus> WriteSlices(const std::vector<L2Cache::Copy>& slices);
  Task<IoStatus> WriteL1(const std::vector<Mapping::L1Change>& changes);
  Task<IoStatus> WriteMetadata(MetadataKind kind, HostOffset at, IoView data);
  Task<void> Release(size_t runs);
  std::vector<HostRun> NextBatch(std::deque<HostRun>* runs);
  Task<IoStatus> WriteLowered();

  const Geometry geometry_;
  const Parts parts_;
  Mutex mutex_;
  std::deque<HostRun> awaiting_;  // freed by commits, not yet by a flush
  size_t covered_ = 0;            // so many of them by the flush that follows
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_WRITEBACK_H_
