#include "fuse/slots.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "graph/async/check.h"

namespace bgfs::fuse {
namespace {

// Every connection has one.
std::atomic<size_t> pools{0};

}  // namespace

size_t SlotPool::MaxKeptBytes() {
  return kMaxKeptBytes /
         std::max<size_t>(1, pools.load(std::memory_order_relaxed));
}

SlotPool::SlotPool(Transport* owner, Map map) : owner_(owner), map_(map) {
  pools.fetch_add(1, std::memory_order_relaxed);
}

SlotPool::~SlotPool() {
  BGFS_CHECK(in_use_ == 0);
  pools.fetch_sub(1, std::memory_order_relaxed);
  for (const Chunk& chunk : chunks_) {
    munmap(chunk.memory, kSlotsPerChunk * kStride);
  }
}

void* SlotPool::MapMemory(size_t bytes) {
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

bool SlotPool::Grow() {
  if ((chunks_.size() + 1) * kSlotsPerChunk > kMaxSlots) return false;
  void* memory = map_(kSlotsPerChunk * kStride);
  if (memory == MAP_FAILED) return false;
  // A huge page would make a small request pay for 2 MiB.
  madvise(memory, kSlotsPerChunk * kStride, MADV_NOHUGEPAGE);
  auto slots = std::make_unique<Slot[]>(kSlotsPerChunk);
  for (size_t i = kSlotsPerChunk; i-- > 0;) {
    Slot& slot = slots[i];
    slot.transport = owner_;
    slot.payload = static_cast<char*>(memory) + i * kStride + kPageBytes;
    slot.capacity = kPayloadBytes;
    slot.next_free = free_;
    free_ = &slot;
  }
  chunks_.push_back({memory, std::move(slots)});
  return true;
}

SlotPool::Slot* SlotPool::Take() {
  if (free_ == nullptr && !Grow()) return nullptr;
  Slot* slot = free_;
  free_ = slot->next_free;
  ++in_use_;
  slot->touched = 0;
  return slot;
}

void SlotPool::Return(Slot* slot) {
  --in_use_;
  slot->next_free = free_;
  free_ = slot;
  if (slot->touched > slot->kept_bytes) {
    kept_bytes_ += slot->touched - slot->kept_bytes;
    slot->kept_bytes = slot->touched;
  }
  if (slot->kept_bytes > 0 && kept_bytes_ > MaxKeptBytes()) GiveBack(slot);
}

void SlotPool::GiveBack(Slot* slot) {
  madvise(slot->payload, slot->kept_bytes, MADV_DONTNEED);
  kept_bytes_ -= std::exchange(slot->kept_bytes, 0);
}

void SlotPool::Trim() {
  for (Slot* slot = free_; slot != nullptr; slot = slot->next_free) {
    if (slot->kept_bytes > 0) GiveBack(slot);
  }
}

}  // namespace bgfs::fuse
