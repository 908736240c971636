#include "drivers/qcow2/writeback.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {
namespace {

constexpr int kMaxRounds = 4;

}  // namespace

Task<IoStatus> Writeback::Commit() {
  const Mutex::Guard guard = co_await mutex_.Lock();
  if (!needed() && !pressed()) co_return IoStatus();
  co_return co_await CommitLocked();
}

Task<IoStatus> Writeback::CommitLocked() {
  if (!parts_.header_file->sound()) co_return IoError(EIO);
  BGFS_CO_TRY(co_await parts_.header_file->Settle());
  auto slices = parts_.mapping->l2_cache().CopyDirty();
  if (!slices.ok()) co_return slices.status();
  Batch batch;
  batch.slices = *std::move(slices);
  batch.l1 = parts_.mapping->TakeL1Changes();
  batch.freed = parts_.allocator->TakeFreed();
  const IoStatus status = co_await WriteBatch(&batch);
  if (status.ok()) {
    awaiting_.insert(awaiting_.end(), batch.freed.begin(), batch.freed.end());
  } else {
    parts_.mapping->PutBack(batch.l1);
    parts_.allocator->PutBack(batch.freed);
  }
  co_return status;
}

Task<IoStatus> Writeback::WriteBatch(Batch* batch) {
  BGFS_CO_TRY(co_await WriteRefcounts(&batch->freed));
  BGFS_CO_TRY(co_await WriteSlices(batch->slices));
  BGFS_CO_TRY(co_await WriteL1(batch->l1));
  for (const L2Cache::Copy& copy : batch->slices) {
    parts_.mapping->l2_cache().Written(copy);
  }
  co_return IoStatus();
}

// Metadata never goes where other metadata is.
Task<IoStatus> Writeback::WriteMetadata(MetadataKind kind, HostOffset at,
                                        IoView data) {
  const MetadataKind other = parts_.metadata->Overlap(at, data.size(), kind);
  if (other != MetadataKind::kData) {
    co_return co_await parts_.header_file->MarkCorrupt(absl::StrCat(
        NameOf(kind), " at ", at.value(), " lies over ", NameOf(other)));
  }
  co_return co_await parts_.file->Write(nullptr, at.value(), data);
}

Task<IoStatus> Writeback::WriteRefcounts(std::vector<HostRun>* freed) {
  const Refcounts::TableChange change = parts_.refcounts->TakeTableChange();
  const auto copies = parts_.refcounts->CopyDirty();
  IoStatus status = copies.status();
  if (status.ok()) {
    for (const Refcounts::Copy& copy : *copies) {
      status = co_await WriteMetadata(MetadataKind::kRefcountBlock, copy.at,
                                      copy.bytes.view());
      if (!status.ok()) break;
    }
  }
  if (status.ok() && change.moved) {
    status = co_await parts_.refcounts->WriteEntries(change);
  }
  if (status.ok()) status = co_await parts_.file->Flush();
  if (status.ok()) {
    for (const Refcounts::Copy& copy : *copies) {
      parts_.refcounts->Durable(copy);
    }
    if (!change.empty()) status = co_await PublishBlocks(change, freed);
  }
  if (!status.ok()) parts_.refcounts->PutBack(change);
  co_return status;
}

Task<IoStatus> Writeback::PublishBlocks(const Refcounts::TableChange& change,
                                        std::vector<HostRun>* freed) {
  if (!change.moved) {
    BGFS_CO_TRY(co_await parts_.refcounts->WriteEntries(change));
  } else {
    BGFS_CO_TRY(co_await parts_.header_file->SetRefcountTable(change.table,
                                                              change.clusters));
    const std::vector<HostRun> tables = parts_.refcounts->Moved(change);
    freed->insert(freed->end(), tables.begin(), tables.end());
  }
  co_return co_await parts_.file->Flush();
}

// Slices side by side in the file go out one by one: they are whole pages.
Task<IoStatus> Writeback::WriteSlices(
    const std::vector<L2Cache::Copy>& slices) {
  for (const L2Cache::Copy& copy : slices) {
    BGFS_CO_TRY(co_await WriteMetadata(MetadataKind::kL2Table, copy.slice,
                                       copy.big_endian.view()));
  }
  co_return IoStatus();
}

// Only the entries themselves: their neighbours may have changed since.
Task<IoStatus> Writeback::WriteL1(
    const std::vector<Mapping::L1Change>& changes) {
  size_t i = 0;
  while (i < changes.size()) {
    const L1Index first = changes[i].index;
    std::vector<uint64_t> raw;
    for (; i < changes.size() &&
           changes[i].index - first == static_cast<int64_t>(raw.size());
         ++i) {
      raw.push_back(FromBig64(changes[i].raw));
    }
    BGFS_CO_TRY(co_await WriteMetadata(
        MetadataKind::kL1Table,
        parts_.mapping->l1_table() + first.value() * int64_t{8},
        IoView(raw.data(), static_cast<int64_t>(raw.size() * 8))));
  }
  co_return IoStatus();
}

// --- What was freed ----------------------------------------------------------

Task<void> Writeback::AfterFlush() { return Release(covered_); }

// In batches, so that what is lowered does not all wait in memory.
Task<void> Writeback::Release(size_t runs) {
  runs = std::min(runs, awaiting_.size());
  if (runs == 0) co_return;
  const auto end = awaiting_.begin() + static_cast<int64_t>(runs);
  std::deque<HostRun> released(awaiting_.begin(), end);
  awaiting_.erase(awaiting_.begin(), end);
  covered_ -= std::min(covered_, runs);
  while (!released.empty()) {
    co_await parts_.allocator->Release(NextBatch(&released));
    // What cannot be written now is changed still.
    if (parts_.refcounts->pressed()) (co_await WriteLowered()).Ignore();
  }
}

// As much as a part of the refcount cache counts.
std::vector<HostRun> Writeback::NextBatch(std::deque<HostRun>* runs) {
  std::vector<HostRun> batch;
  int64_t blocks = parts_.refcounts->BlocksAtOnce();
  while (!runs->empty() && blocks > 0) {
    HostRun& run = runs->front();
    const int64_t first = parts_.refcounts->BlockOf(run.first);
    const HostCluster end = parts_.refcounts->StartOfBlock(first + blocks);
    const int64_t clusters = std::min(run.clusters, end - run.first);
    batch.push_back({run.first, clusters});
    run = {run.first + clusters, run.clusters - clusters};
    blocks -=
        parts_.refcounts->BlockOf(batch.back().end() + int64_t{-1}) - first + 1;
    if (run.empty()) runs->pop_front();
  }
  return batch;
}

// Steps 2 to 4.
Task<IoStatus> Writeback::WriteLowered() {
  const Mutex::Guard guard = co_await mutex_.Lock();
  if (!parts_.header_file->sound()) co_return IoError(EIO);
  BGFS_CO_TRY(co_await parts_.header_file->Settle());
  std::vector<HostRun> freed;
  const IoStatus status = co_await WriteRefcounts(&freed);
  parts_.allocator->PutBack(freed);
  co_return status;
}

Task<IoStatus> Writeback::CommitAndFlush() {
  size_t runs = 0;
  {
    const Mutex::Guard guard = co_await mutex_.Lock();
    BGFS_CO_TRY(co_await CommitLocked());
    BGFS_CO_TRY(co_await parts_.file->Flush());
    runs = awaiting_.size();
  }
  co_await Release(runs);
  co_return IoStatus();
}

Task<IoStatus> Writeback::Finish() {
  // The first round may free something, whose counts the next one writes.
  for (int round = 0; round < kMaxRounds; ++round) {
    if (!needed() && !has_freed() && !parts_.refcounts->changed()) break;
    BGFS_CO_TRY(co_await CommitAndFlush());
  }
  co_return IoStatus();
}

// --- The L1 table ------------------------------------------------------------

// Under the mutex, so that no commit writes entries meanwhile. The copy is
// older than the counts that are written next, so these have all it refers to.
Task<IoStatus> Writeback::MoveL1(HostRun to, int64_t entries) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  BGFS_CO_TRY(co_await parts_.header_file->Settle());
  Mapping& mapping = *parts_.mapping;
  const int64_t bytes = to.clusters * geometry_.cluster_size();
  const std::vector<uint64_t> copy = mapping.CopyL1(bytes / 8);
  std::vector<HostRun> freed;
  const IoStatus counted = co_await WriteRefcounts(&freed);
  parts_.allocator->PutBack(freed);
  BGFS_CO_TRY(counted);
  const HostOffset place = geometry_.StartOf(to.first);
  BGFS_CO_TRY(co_await WriteMetadata(MetadataKind::kL1Table, place,
                                     IoView(copy.data(), bytes)));
  BGFS_CO_TRY(co_await parts_.file->Flush());
  BGFS_CO_TRY(co_await parts_.header_file->SetL1(place, entries));
  const HostOffset old = mapping.l1_table();
  const int64_t old_bytes = mapping.l1_entries() * 8;
  if (old_bytes > 0) {
    parts_.metadata->Remove(MetadataKind::kL1Table, old, old_bytes);
    parts_.allocator->FreeLater(
        {geometry_.ClusterOf(old), geometry_.ClustersFor(old_bytes)});
  }
  parts_.metadata->Add(MetadataKind::kL1Table, place, bytes);
  mapping.MoveL1(place, entries);
  co_return IoStatus();
}

}  // namespace bgfs::qcow2
