// Writer, the disk's size (rule 9 of the safe writer).
//
//   growing     room in the L1 table; what is mapped past the old end is
//               cleared, what would show of a longer backing layer is hidden:
//               durable; then the size
//   shrinking   the size: durable; then the entries, which show nothing any
//               more. The other way round a power cut would leave the old size
//               and, where the disk had its own data, zeros or what lies below.
//               What stays mapped past the end is cleared before a growth.
//
// In version 2 a snapshot does not say how long its disk is: it is as long as
// the image's, which therefore keeps its size.

#include <algorithm>
#include <cerrno>

#include "drivers/qcow2/format.h"
#include "drivers/qcow2/writer.h"

namespace bgfs::qcow2 {

Task<IoStatus> Writer::Truncate(Request& request, int64_t size_bytes,
                                Preallocation preallocation) {
  if (!begun()) BGFS_CO_TRY(co_await Begin());
  const int64_t old_size = disk_size_;
  if (size_bytes < old_size) co_return co_await ShrinkTo(request, size_bytes);
  if (size_bytes == old_size) co_return IoStatus();
  BGFS_CO_TRY(co_await GrowTo(request, size_bytes));
  co_return co_await Preallocate(request, GuestOffset(old_size),
                                 size_bytes - old_size, preallocation);
}

// --- Growing -----------------------------------------------------------------

Task<IoStatus> Writer::GrowTo(Request& request, int64_t size_bytes) {
  if (!resizable_) co_return IoError(ENOTSUP);
  const int64_t entries = geometry_.L1EntriesFor(size_bytes);
  if (entries > kMaxL1Bytes / 8) co_return IoError(EFBIG);
  if (entries > mapping_->l1_entries()) {
    BGFS_CO_TRY(co_await GrowL1(entries));
  }
  BGFS_CO_TRY(co_await ClearPastEnd(request, size_bytes));
  BGFS_CO_TRY(co_await HideBacking(request, size_bytes));
  co_return co_await SetSize(size_bytes);
}

Task<IoStatus> Writer::GrowL1(int64_t entries) {
  // Half as large again, so that growing by and by does not move it each time.
  entries = std::clamp(mapping_->l1_entries() * 3 / 2, entries,
                       kMaxL1Bytes / int64_t{8});
  const int64_t clusters = geometry_.ClustersFor(entries * 8);
  const IoResult<HostRun> run = co_await allocator_.AllocateWhole(clusters);
  if (!run.ok()) co_return run.status();
  const IoStatus moved = co_await writeback_.MoveL1(*run, entries);
  // The header may tell of it, until it is settled by the next commit.
  if (!moved.ok()) allocator_.FreeLater(*run);
  co_return moved;
}

// The rest of the last cluster may hold what was there before a shrink, or what
// another program left; so may the entries behind it. What memory holds of them
// is not what the disk does: all of it is made durable, once, as far as the L1
// table reaches.
Task<IoStatus> Writer::ClearPastEnd(Request& request, int64_t size_bytes) {
  const int64_t last_end = AlignUp(disk_size_, geometry_.cluster_size());
  if (size_bytes <= clean_to_) co_return IoStatus();
  const int64_t to = mapping_->l1_entries() * geometry_.bytes_per_l2_table();
  if (last_end > disk_size_) {
    const IoResult<Extent> tail = co_await mapping_->Lookup(
        request, GuestOffset(disk_size_), last_end - disk_size_);
    if (!tail.ok()) co_return tail.status();
    if (tail->has_data()) {
      BGFS_CO_TRY(co_await ZeroPart(request, tail->start, tail->bytes, 0));
    }
  }
  BGFS_CO_TRY(
      co_await ClearMapped(request, GuestOffset(last_end), GuestOffset(to)));
  BGFS_CO_TRY(co_await writeback_.CommitAndFlush());
  clean_to_ = to;
  co_return IoStatus();
}

// Unmaps whole clusters.
Task<IoStatus> Writer::ClearMapped(Request& request, GuestOffset from,
                                   GuestOffset to) {
  while (from < to) {
    const IoResult<Extent> extent =
        co_await mapping_->Lookup(request, from, to - from);
    if (!extent.ok()) co_return extent.status();
    // Zeros past the end do no harm.
    if (extent->kind != ClusterKind::kUnallocated &&
        extent->kind != ClusterKind::kZero) {
      BGFS_CO_TRY(co_await MapAll(request, from, extent->bytes, Change{}));
    }
    from += extent->bytes;
  }
  co_return IoStatus();
}

// What a longer backing layer holds past the old end.
Task<IoStatus> Writer::HideBacking(Request& request, int64_t size_bytes) {
  if (backing() == nullptr || backing()->size() <= disk_size_) {
    co_return IoStatus();
  }
  const int64_t cluster_size = geometry_.cluster_size();
  const int64_t end =
      AlignUp(std::min(backing()->size(), size_bytes), cluster_size);
  const int64_t whole = std::min(AlignUp(disk_size_, cluster_size), end);
  BGFS_CO_TRY(co_await ZeroPart(request, GuestOffset(disk_size_),
                                whole - disk_size_, 0));
  BGFS_CO_TRY(
      co_await ZeroClusters(request, GuestOffset(whole), end - whole, 0));
  co_return co_await writeback_.CommitAndFlush();
}

Task<IoStatus> Writer::Preallocate(Request& request, GuestOffset from,
                                   int64_t bytes, Preallocation how) {
  if (how == Preallocation::kOff) co_return IoStatus();
  if (how != Preallocation::kFull) {
    co_return co_await Reserve(request, from, bytes);
  }
  for (int64_t done = 0; done < bytes;) {
    const IoResult<Extent> extent =
        co_await mapping_->Lookup(request, from + done, bytes - done);
    if (!extent.ok()) co_return extent.status();
    if (!extent->in_place()) {
      BGFS_CO_TRY(co_await WriteZeros(request, *extent));
    }
    done += extent->bytes;
  }
  co_return IoStatus();
}

// --- Shrinking ---------------------------------------------------------------

Task<IoStatus> Writer::ShrinkTo(Request& request, int64_t size_bytes) {
  if (!resizable_) co_return IoError(ENOTSUP);
  const int64_t cluster_size = geometry_.cluster_size();
  const GuestOffset from(AlignUp(size_bytes, cluster_size));
  const GuestOffset to(AlignUp(disk_size_, cluster_size));
  BGFS_CO_TRY(co_await LoadMapped(request, from, to));
  BGFS_CO_TRY(co_await SetSize(size_bytes));
  // A commit flushes the size before it writes entries.
  (co_await ClearMapped(request, from, to)).Ignore();
  co_return IoStatus();
}

Task<IoStatus> Writer::SetSize(int64_t size_bytes) {
  BGFS_CO_TRY(co_await header_file_.SetDiskSize(size_bytes));
  if (size_bytes < disk_size_) clean_to_ = 0;
  disk_size_ = size_bytes;
  co_return IoStatus();
}

// Reads all tables of a range, so that what cannot be read fails the request
// before it has changed anything.
Task<IoStatus> Writer::LoadMapped(Request& request, GuestOffset from,
                                  GuestOffset to) {
  while (from < to) {
    const IoResult<Extent> extent =
        co_await mapping_->Lookup(request, from, to - from);
    if (!extent.ok()) co_return extent.status();
    from += extent->bytes;
  }
  co_return IoStatus();
}

}  // namespace bgfs::qcow2
