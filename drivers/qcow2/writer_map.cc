// Writer, the changes of L1 and L2 entries in memory.

#include <cstring>

#include "drivers/qcow2/format.h"
#include "drivers/qcow2/writer.h"
#include "graph/async/buffer.h"

namespace bgfs::qcow2 {

// Takes clusters; what was freed and is not durable yet is waited for only when
// there is no other room.
Task<IoResult<Allocator::Space>> Writer::Allocate(int64_t clusters) {
  if (writeback_.pressed()) {
    if (IoStatus s = co_await writeback_.CommitAndFlush(); !s.ok()) co_return s;
  }
  IoResult<Allocator::Space> space = co_await allocator_.Allocate(clusters);
  if (space.error() == ENOSPC && writeback_.has_freed() &&
      (co_await writeback_.CommitAndFlush()).ok()) {
    space = co_await allocator_.Allocate(clusters);
  }
  co_return space;
}

Task<IoStatus> Writer::MapAll(Request& request, GuestOffset start,
                              int64_t bytes, Change change) {
  int64_t done = 0;
  co_return co_await Map(request, geometry_.ClusterOf(start),
                         geometry_.ClustersFor(bytes), change, &done);
}

// Between MakeReady() and the end of the inner loop nothing waits.
Task<IoStatus> Writer::Map(Request& request, GuestCluster first, int64_t count,
                           Change change, int64_t* done) {
  while (*done < count) {
    const GuestCluster cluster = first + *done;
    BGFS_CO_TRY(co_await MakeReady(request, cluster));
    L2Cache& cache = mapping_->l2_cache();
    const L1Entry table = mapping_->Table(geometry_.L1IndexOf(cluster));
    const L2Index index = geometry_.L2IndexOf(cluster);
    const absl::Span<uint64_t> entries =
        cache.Change(cache.SliceOf(table.l2_table, index));
    auto i = static_cast<size_t>(index.value() % cache.slice_entries());
    const char* fault = nullptr;
    for (; i < entries.size() && *done < count; ++i) {
      const L2Entry old = DecodeL2Entry(entries[i], geometry_, zero_flag_);
      fault = old.fault;
      if (fault != nullptr) break;
      entries[i] = NewEntry(change, *done, old);
      FreeOld(old, entries[i]);
      ++*done;
    }
    if (fault != nullptr) co_return co_await header_file_.MarkCorrupt(fault);
  }
  co_return IoStatus();
}

uint64_t Writer::NewEntry(const Change& change, int64_t index,
                          const L2Entry& old) const {
  const bool own = old.copied && (old.kind == ClusterKind::kStandard ||
                                  old.kind == ClusterKind::kZeroAllocated);
  const auto place = static_cast<uint64_t>(
      geometry_.StartOf(change.run.first + index).value());
  switch (change.kind) {
    case ClusterKind::kStandard:
      return place | kEntryCopied;
    case ClusterKind::kZeroAllocated:
      return place | kEntryCopied | kEntryZero;
    case ClusterKind::kZero:
      if (!change.keep_host || !own) return kEntryZero;
      return static_cast<uint64_t>(old.host.value()) | kEntryCopied |
             kEntryZero;
    default:
      return 0;
  }
}

void Writer::FreeOld(const L2Entry& old, uint64_t replaced_by) {
  switch (old.kind) {
    case ClusterKind::kStandard:
    case ClusterKind::kZeroAllocated:
      if ((replaced_by & kEntryOffsetMask) ==
          static_cast<uint64_t>(old.host.value())) {
        return;
      }
      allocator_.FreeLater({geometry_.ClusterOf(old.host), 1});
      return;
    case ClusterKind::kCompressed: {
      const HostCluster first = geometry_.ClusterOf(old.host);
      const HostCluster last =
          geometry_.ClusterOf(old.host + (old.compressed_bytes - 1));
      allocator_.FreeLater({first, last - first + 1});
      return;
    }
    default:
      return;
  }
}

Task<IoStatus> Writer::MakeReady(Request& request, GuestCluster cluster) {
  const L1Index l1_index = geometry_.L1IndexOf(cluster);
  L2Cache& cache = mapping_->l2_cache();
  while (true) {
    if (!header_file_.sound()) co_return IoError(EIO);
    if (writeback_.pressed()) {
      BGFS_CO_TRY(co_await writeback_.CommitAndFlush());
    }
    const L1Entry table = mapping_->Table(l1_index);
    if (const char* fault = mapping_->FaultOf(table); fault != nullptr) {
      co_return mapping_->Fault(geometry_.StartOf(cluster), fault);
    }
    if (!table.allocated() || !table.copied) {
      BGFS_CO_TRY(co_await MakeTable(l1_index));
      continue;
    }
    const HostOffset slice =
        cache.SliceOf(table.l2_table, geometry_.L2IndexOf(cluster));
    if (cache.Find(slice).empty()) {
      BGFS_CO_TRY(co_await cache.Load(request, slice));
    } else if (cache.MayChange(slice)) {
      co_return IoStatus();
    } else {
      BGFS_CO_TRY(co_await writeback_.Commit());
    }
  }
}

// A table of the image's own: an empty one, or a copy of one that a snapshot
// shares.
Task<IoStatus> Writer::MakeTable(L1Index index) {
  const Mutex::Guard guard = co_await table_mutex_.Lock();
  const L1Entry old = mapping_->Table(index);
  if (old.allocated() && old.copied) co_return IoStatus();
  const IoResult<Allocator::Space> space = co_await Allocate(1);
  if (!space.ok()) co_return space.status();
  const HostOffset at = geometry_.StartOf(space->run.first);
  if (IoStatus wrote = co_await WriteNewTable(at, old); !wrote.ok()) {
    co_await allocator_.Undo(space->run);
    co_return wrote;
  }
  mapping_->l2_cache().Forget(at);
  mapping_->SetTable(index, at);
  metadata_.Add(MetadataKind::kL2Table, at, 1);
  if (old.allocated()) {
    metadata_.Remove(MetadataKind::kL2Table, old.l2_table, 1);
    allocator_.FreeLater({geometry_.ClusterOf(old.l2_table), 1});
  }
  co_return IoStatus();
}

Task<IoStatus> Writer::WriteNewTable(HostOffset at, L1Entry old) {
  AlignedBuffer table = AlignedBuffer::Allocate(geometry_.cluster_size());
  if (!table) co_return IoError(ENOMEM);
  table.view().Zero();
  if (old.allocated()) {
    BGFS_CO_TRY(
        co_await file_->Read(nullptr, old.l2_table.value(), table.view()));
  }
  co_return co_await file_->Write(nullptr, at.value(), table.view());
}

}  // namespace bgfs::qcow2
