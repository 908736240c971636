#include "drivers/qcow2/l2_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "drivers/qcow2/format.h"
#include "graph/async/check.h"

namespace bgfs::qcow2 {
namespace {

int64_t SliceBytes(Geometry geometry) {
  return std::min(geometry.cluster_size(), L2Cache::kMaxSliceBytes);
}

// One that is written may get more tables.
constexpr int64_t kMinSlicesWritable = 8;
// What one write-back copies at most.
constexpr int64_t kMaxDirtySlices = 1024;

int64_t CapacityFor(Geometry geometry, int64_t tables, int64_t max_bytes,
                    bool writable) {
  const int64_t slice_bytes = SliceBytes(geometry);
  const int64_t most = max_bytes / slice_bytes;
  if (writable) return std::max(kMinSlicesWritable, most);
  const int64_t slices = tables * (geometry.cluster_size() / slice_bytes);
  return std::max<int64_t>(1, std::min(slices, most));
}

}  // namespace

L2Cache::L2Cache(Child* file, Geometry geometry, int64_t tables,
                 int64_t max_bytes, bool writable)
    : file_(file),
      table_bytes_(geometry.cluster_size()),
      slice_entries_(SliceBytes(geometry) / kEntryBytes),
      capacity_(CapacityFor(geometry, tables, max_bytes, writable)) {
  // Costs address space only, until a slot is filled.
  void* region =
      mmap(nullptr, static_cast<size_t>(capacity_ * slice_entries_ * 8),
           PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
           -1, 0);
  BGFS_CHECK(region != MAP_FAILED);
  region_ = static_cast<char*>(region);
}

L2Cache::~L2Cache() {
  BGFS_CHECK(loading_.empty());
  munmap(region_, static_cast<size_t>(capacity_ * slice_entries_ * 8));
}

uint64_t* L2Cache::EntriesOf(int slot) const {
  return reinterpret_cast<uint64_t*>(region_ +
                                     slot * slice_entries_ * kEntryBytes);
}

void L2Cache::Unlink(int slot) {
  const Slot& s = slots_[slot];
  (s.newer == kNone ? newest_ : slots_[s.newer].older) = s.older;
  (s.older == kNone ? oldest_ : slots_[s.older].newer) = s.newer;
}

void L2Cache::LinkNewest(int slot) {
  slots_[slot].newer = kNone;
  slots_[slot].older = newest_;
  (newest_ == kNone ? oldest_ : slots_[newest_].newer) = slot;
  newest_ = slot;
}

absl::Span<const uint64_t> L2Cache::Find(HostOffset slice) {
  auto found = index_.find(slice.value());
  if (found == index_.end()) return {};
  ++found_;
  const int slot = found->second;
  if (slot != newest_ && !slots_[slot].dirty) {
    Unlink(slot);
    LinkNewest(slot);
  }
  return {EntriesOf(slot), static_cast<size_t>(slice_entries_)};
}

// A slot in no list: a fresh one, else the clean one used least recently.
int L2Cache::TakeSlot() {
  if (!free_slots_.empty()) {
    const int slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
  }
  if (static_cast<int64_t>(slots_.size()) < capacity_) {
    slots_.emplace_back();
    return static_cast<int>(slots_.size()) - 1;
  }
  const int slot = oldest_;
  BGFS_CHECK(slot != kNone);  // DirtyLimit() is below the capacity
  Unlink(slot);
  index_.erase(slots_[slot].slice.value());
  ++evictions_;
  return slot;
}

void L2Cache::Insert(HostOffset slice, const char* big_endian) {
  const int slot = TakeSlot();
  uint64_t* entries = EntriesOf(slot);
  for (int64_t i = 0; i < slice_entries_; ++i) {
    uint64_t raw;
    std::memcpy(&raw, big_endian + i * kEntryBytes, sizeof(raw));
    entries[i] = FromBig64(raw);
  }
  slots_[slot].slice = slice;
  slots_[slot].dirty = false;
  slots_[slot].version = next_version_++;
  LinkNewest(slot);
  index_.emplace(slice.value(), slot);
}

Task<IoStatus> L2Cache::ReadSlice(Request& request, HostOffset slice,
                                  const Loading& loading) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(slice_entries_ * kEntryBytes);
  if (!buffer) co_return IoError(ENOMEM);
  BGFS_CO_TRY(co_await file_->Read(&request, slice.value(), buffer.view()));
  // Whoever wanted it looks again, and finds that its table is another.
  if (!loading.stale) Insert(slice, buffer.data());
  co_return IoStatus();
}

Task<IoStatus> L2Cache::Load(Request& request, HostOffset slice) {
  if (index_.contains(slice.value())) co_return IoStatus();
  ++misses_;
  auto loading = std::make_shared<Loading>();
  const auto [other, first] = loading_.try_emplace(slice.value(), loading);
  if (!first) {
    loading = other->second;
    co_await loading->waiters.Wait();
    co_return loading->status;
  }
  loading->status = co_await ReadSlice(request, slice, *loading);
  const auto mine = loading_.find(slice.value());
  if (mine != loading_.end() && mine->second == loading) loading_.erase(mine);
  loading->waiters.WakeAll();
  co_return loading->status;
}

CacheStatistics L2Cache::statistics() const {
  return {"l2", std::max<int64_t>(0, found_ - misses_), misses_, evictions_};
}

// --- Changes -----------------------------------------------------------------

int64_t L2Cache::DirtyLimit() const {
  return std::min(std::max<int64_t>(1, capacity_ / 2), kMaxDirtySlices);
}

bool L2Cache::MayChange(HostOffset slice) const {
  const auto found = index_.find(slice.value());
  BGFS_CHECK(found != index_.end());
  return slots_[found->second].dirty || dirty_ < DirtyLimit();
}

absl::Span<uint64_t> L2Cache::Change(HostOffset slice) {
  BGFS_CHECK(MayChange(slice));
  const int slot = index_.find(slice.value())->second;
  if (!slots_[slot].dirty) {
    Unlink(slot);
    slots_[slot].dirty = true;
    ++dirty_;
  }
  slots_[slot].version = next_version_++;
  return {EntriesOf(slot), static_cast<size_t>(slice_entries_)};
}

IoResult<std::vector<L2Cache::Copy>> L2Cache::CopyDirty() const {
  std::vector<Copy> copies;
  if (dirty_ == 0) return copies;
  for (const auto& [slice, slot] : index_) {
    if (!slots_[slot].dirty) continue;
    Copy copy{HostOffset(slice), slots_[slot].version,
              AlignedBuffer::Allocate(slice_entries_ * kEntryBytes)};
    if (!copy.big_endian) return IoError(ENOMEM);
    auto* to = reinterpret_cast<uint64_t*>(copy.big_endian.data());
    const uint64_t* const from = EntriesOf(slot);
    for (int64_t i = 0; i < slice_entries_; ++i) to[i] = FromBig64(from[i]);
    copies.push_back(std::move(copy));
  }
  std::sort(copies.begin(), copies.end(),
            [](const Copy& a, const Copy& b) { return a.slice < b.slice; });
  return copies;
}

void L2Cache::Written(const Copy& copy) {
  const auto found = index_.find(copy.slice.value());
  if (found == index_.end()) return;
  Slot& slot = slots_[found->second];
  if (!slot.dirty || slot.version != copy.version) return;
  slot.dirty = false;
  --dirty_;
  LinkNewest(found->second);
}

void L2Cache::Free(int slot) {
  if (slots_[slot].dirty) {
    slots_[slot].dirty = false;
    --dirty_;
  } else {
    Unlink(slot);
  }
  index_.erase(slots_[slot].slice.value());
  free_slots_.push_back(slot);
}

void L2Cache::Forget(HostOffset table) {
  for (int64_t at = 0; at < table_bytes_; at += slice_entries_ * kEntryBytes) {
    const int64_t slice = (table + at).value();
    if (const auto found = index_.find(slice); found != index_.end()) {
      Free(found->second);
    }
    if (const auto found = loading_.find(slice); found != loading_.end()) {
      found->second->stale = true;
      loading_.erase(found);  // whoever comes now reads anew
    }
  }
}

void L2Cache::Clear() {
  while (oldest_ != kNone) Free(oldest_);
  if (dirty_ > 0) return;
  slots_.clear();
  slots_.shrink_to_fit();
  free_slots_.clear();
  free_slots_.shrink_to_fit();
  madvise(region_, static_cast<size_t>(capacity_ * slice_entries_ * 8),
          MADV_DONTNEED);
}

}  // namespace bgfs::qcow2
