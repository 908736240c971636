#include "drivers/qcow2/l2_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "drivers/qcow2/format.h"
#include "graph/async/buffer.h"
#include "graph/async/check.h"

namespace bgfs::qcow2 {
namespace {

int64_t SliceBytes(Geometry geometry) {
  return std::min(geometry.cluster_size(), L2Cache::kMaxSliceBytes);
}

int64_t CapacityFor(Geometry geometry, int64_t tables, int64_t max_bytes) {
  const int64_t slice_bytes = SliceBytes(geometry);
  const int64_t slices = tables * (geometry.cluster_size() / slice_bytes);
  return std::max<int64_t>(1, std::min(slices, max_bytes / slice_bytes));
}

}  // namespace

L2Cache::L2Cache(Child* file, Geometry geometry, int64_t tables,
                 int64_t max_bytes)
    : file_(file),
      slice_entries_(SliceBytes(geometry) / kEntryBytes),
      capacity_(CapacityFor(geometry, tables, max_bytes)) {
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
  const int slot = found->second;
  if (slot != newest_) {
    Unlink(slot);
    LinkNewest(slot);
  }
  return {EntriesOf(slot), static_cast<size_t>(slice_entries_)};
}

// A slot in no list: a fresh one, else the one used least recently.
int L2Cache::TakeSlot() {
  if (static_cast<int64_t>(slots_.size()) < capacity_) {
    slots_.emplace_back();
    return static_cast<int>(slots_.size()) - 1;
  }
  const int slot = oldest_;
  Unlink(slot);
  index_.erase(slots_[slot].slice.value());
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
  LinkNewest(slot);
  index_.emplace(slice.value(), slot);
}

Task<IoStatus> L2Cache::ReadSlice(Request& request, HostOffset slice) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(slice_entries_ * kEntryBytes);
  if (!buffer) co_return IoError(ENOMEM);
  BGFS_CO_TRY(co_await file_->Read(&request, slice.value(), buffer.view()));
  Insert(slice, buffer.data());
  co_return IoStatus();
}

Task<IoStatus> L2Cache::Load(Request& request, HostOffset slice) {
  if (index_.contains(slice.value())) co_return IoStatus();
  auto loading = std::make_shared<Loading>();
  const auto [other, first] = loading_.try_emplace(slice.value(), loading);
  if (!first) {
    loading = other->second;
    co_await loading->waiters.Wait();
    co_return loading->status;
  }
  loading->status = co_await ReadSlice(request, slice);
  loading_.erase(slice.value());
  loading->waiters.WakeAll();
  co_return loading->status;
}

void L2Cache::Clear() {
  index_.clear();
  slots_.clear();
  slots_.shrink_to_fit();
  newest_ = oldest_ = kNone;
  madvise(region_, static_cast<size_t>(capacity_ * slice_entries_ * 8),
          MADV_DONTNEED);
}

}  // namespace bgfs::qcow2
