// Writer: the writing half of the driver, of an image that is open for writing.
//
// A request comes here checked, and runs while nothing that conflicts with it
// does (graph/driver.h); what it would change of the mapping is claimed, in
// whole clusters, by the change window. So each of these is written as if it
// were alone on its clusters:
//
//   write    in place where a cluster is the image's alone, else into new
//            clusters: what the request does not cover is copied from what the
//            guest saw, the data goes out, and then the entries change
//   zero     whole clusters by their entries, parts as a write
//   discard  whole clusters lose their data; they read as zeros
//   reserve  clusters get a place without data (or a copy, where there is data)
//
// Entries change in memory only; writeback.h brings them to the disk.

#ifndef BGFS_DRIVERS_QCOW2_WRITER_H_
#define BGFS_DRIVERS_QCOW2_WRITER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "drivers/qcow2/allocator.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/header_file.h"
#include "drivers/qcow2/mapping.h"
#include "drivers/qcow2/metadata_map.h"
#include "drivers/qcow2/refcounts.h"
#include "drivers/qcow2/slots.h"
#include "drivers/qcow2/writeback.h"
#include "graph/async/sync.h"
#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// Why an image with this header can only be read, one phrase that says what to
// do; OK if it can be written. `file_bytes`: how long its file is.
absl::Status CheckWritable(const Header& header, int64_t file_bytes);

// Owned by the driver of the image, used at its home only.
class Writer {
 public:
  // `image`, whose children are attached, and `mapping` outlive this.
  Writer(const Header& header, Driver* image, Mapping* mapping,
         HeaderFile::Report report);

  // Before all else, for an image that CheckWritable() lets through.
  Task<IoStatus> Open(const Header& header);

  // As Driver's, and on its behalf.
  Task<IoStatus> Write(Request& request, GuestOffset start, IoView data);
  Task<IoStatus> Zero(Request& request, GuestOffset start, int64_t bytes,
                      RequestFlags flags);
  Task<IoStatus> Discard(Request& request, GuestOffset start, int64_t bytes);
  Task<IoStatus> Reserve(Request& request, GuestOffset start, int64_t bytes);
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation);
  Task<IoResult<Range>> ChangeWindow(const Request& request);
  Task<IoStatus> FlushToOs();
  Task<void> AfterFlush();
  // Everything to the disk, and the file as short as it may be. What fails was
  // durable before, or is a leak.
  Task<IoStatus> Settle();

  // Whether changes wait in memory, or space to be given back; Commit() does
  // both.
  bool changed() const { return writeback_.needed() || writeback_.has_freed(); }
  Task<IoStatus> Commit() { return writeback_.CommitAndFlush(); }
  CacheStatistics refcount_statistics() const {
    return refcounts_.statistics();
  }
  // A read has met damage.
  Task<IoStatus> MarkCorrupt(std::string damage) {
    return header_file_.MarkCorrupt(std::move(damage));
  }

 private:
  // What Map() makes of clusters.
  struct Change {
    ClusterKind kind = ClusterKind::kUnallocated;
    HostRun run = {};        // kStandard, kZeroAllocated: where they lie
    bool keep_host = false;  // kZero: clusters of the image's own keep theirs
  };

  Child* backing() const { return image_->node().backing(); }
  Task<IoStatus> AddSnapshots(const Header& header);
  // Before a change: whether the image may be written, and what must be durable
  // before the first one.
  bool begun() const { return begun_ && header_file_.sound(); }
  Task<IoStatus> Begin();
  Task<IoStatus> WriteInPlace(Request& request, Extent extent, IoView data);
  // Writes data into clusters that are new or reserved, as much of `data` as
  // found room side by side; gives how much.
  Task<IoResult<int64_t>> Fill(Request& request, Extent extent, IoView data);
  Task<IoStatus> FillClusters(Request& request, Extent extent,
                              Allocator::Space space, IoView data);
  Task<IoStatus> WriteZeros(Request& request, Extent extent);
  // Reads what the guest sees there, zeros past the end of the disk.
  Task<IoStatus> ReadGuest(Request& request, GuestOffset start, IoView data);
  bool ReadsAsZeros(const Extent& extent) const;

  Task<IoStatus> ZeroPart(Request& request, GuestOffset start, int64_t bytes,
                          RequestFlags flags);
  Task<IoStatus> ZeroClusters(Request& request, GuestOffset start,
                              int64_t bytes, RequestFlags flags);
  Task<IoStatus> ZeroExtent(Request& request, Extent extent,
                            RequestFlags flags);
  Task<IoStatus> ReserveExtent(Request& request, Extent extent);
  Task<IoStatus> CopyUp(Request& request, Extent extent);
  Task<IoStatus> ReserveSpace(Request& request, Extent extent);
  Task<IoResult<bool>> BackingIsZero(Request& request, GuestOffset start,
                                     int64_t bytes);
  Task<IoResult<Range>> WindowOfWrite(const Request& request);

  // --- writer_map.cc: entries ---
  // Changes the entries of `count` clusters from `first` on; `*done` says how
  // many were changed, also when it fails. What they referred to is freed.
  Task<IoStatus> Map(Request& request, GuestCluster first, int64_t count,
                     Change change, int64_t* done);
  Task<IoStatus> MapAll(Request& request, GuestOffset start, int64_t bytes,
                        Change change);
  // Makes the entries of `cluster` ready to be changed at once.
  Task<IoStatus> MakeReady(Request& request, GuestCluster cluster);
  Task<IoStatus> MakeTable(L1Index index);
  Task<IoStatus> WriteNewTable(HostOffset at, L1Entry old);
  uint64_t NewEntry(const Change& change, int64_t index,
                    const L2Entry& old) const;
  void FreeOld(const L2Entry& old, uint64_t replaced_by);
  Task<IoResult<Allocator::Space>> Allocate(int64_t clusters);

  // --- resize.cc ---
  Task<IoStatus> GrowTo(Request& request, int64_t size_bytes);
  Task<IoStatus> ClearPastEnd(Request& request, int64_t size_bytes);
  Task<IoStatus> ClearMapped(Request& request, GuestOffset from,
                             GuestOffset to);
  Task<IoStatus> HideBacking(Request& request, int64_t size_bytes);
  Task<IoStatus> GrowL1(int64_t entries);
  Task<IoStatus> ShrinkTo(Request& request, int64_t size_bytes);
  Task<IoStatus> SetSize(int64_t size_bytes);
  Task<IoStatus> LoadMapped(Request& request, GuestOffset from, GuestOffset to);
  Task<IoStatus> Preallocate(Request& request, GuestOffset from, int64_t bytes,
                             Preallocation how);

  const Geometry geometry_;
  const bool zero_flag_;
  const bool resizable_;
  Driver* const image_;
  Child* const file_;
  Mapping* const mapping_;
  MetadataMap metadata_;
  HeaderFile header_file_;
  Refcounts refcounts_;
  Allocator allocator_;
  Writeback writeback_;
  Mutex table_mutex_;

  int64_t disk_size_;
  // Past the end of the disk up to here everything is known to be unmapped, or
  // zeros in the last cluster.
  int64_t clean_to_ = 0;
  bool begun_ = false;
  Slots copies_;  // bounds the memory of clusters that are copied
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_WRITER_H_
