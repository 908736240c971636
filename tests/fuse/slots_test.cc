#include "fuse/slots.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <set>
#include <vector>

namespace bgfs::fuse {
namespace {

using Slot = SlotPool::Slot;

TEST(Slots, AreDistinctAlignedAndBounded) {
  SlotPool pool(nullptr);
  std::vector<Slot*> slots;
  std::set<char*> payloads;
  while (Slot* slot = pool.Take()) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slot->payload) % 4096, 0u);
    // The whole message fits before and in the payload.
    slot->message()[0] = 1;
    slot->payload[slot->capacity - 1] = 2;
    payloads.insert(slot->payload);
    slots.push_back(slot);
    ASSERT_LE(slots.size(), SlotPool::kMaxSlots);
    if (slots.size() == 100) break;
  }
  EXPECT_EQ(payloads.size(), 100u);
  EXPECT_EQ(pool.in_use(), 100u);
  char* previous = nullptr;
  for (char* payload : payloads) {
    if (previous != nullptr) {
      EXPECT_GE(payload - previous,
                ptrdiff_t{SlotPool::kPayloadBytes + SlotPool::kHeaderBytes});
    }
    previous = payload;
  }
  for (Slot* slot : slots) pool.Return(slot);
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(Slots, RunOutAndComeBack) {
  SlotPool pool(nullptr);
  std::vector<Slot*> slots;
  while (Slot* slot = pool.Take()) slots.push_back(slot);
  EXPECT_EQ(slots.size(), SlotPool::kMaxSlots);
  pool.Return(slots.back());
  EXPECT_EQ(pool.Take(), slots.back());
  for (Slot* slot : slots) pool.Return(slot);
}

TEST(Slots, GiveMemoryBack) {
  SlotPool pool(nullptr);
  std::vector<Slot*> slots;
  for (int i = 0; i < 80; ++i) {
    Slot* slot = pool.Take();
    ASSERT_NE(slot, nullptr);
    std::memset(slot->payload, 1, slot->capacity);
    slot->touched = slot->capacity;
    slots.push_back(slot);
  }
  for (Slot* slot : slots) pool.Return(slot);
  EXPECT_LE(pool.kept_bytes(), SlotPool::kMaxKeptBytes);
  EXPECT_GT(pool.kept_bytes(), 0u);
  EXPECT_EQ(slots.front()->payload[0], 1);  // kept
  EXPECT_EQ(slots.back()->payload[0], 0);   // given back at once
  pool.Trim();
  EXPECT_EQ(pool.kept_bytes(), 0u);
  EXPECT_EQ(slots.front()->payload[0], 0);
}

// Takes that many, writes to all of `touched` of each, and gives them back.
void Use(SlotPool* pool, int count, uint32_t touched) {
  std::vector<Slot*> slots(count);
  for (Slot*& slot : slots) {
    slot = pool->Take();
    slot->touched = touched;
  }
  for (Slot* slot : slots) pool->Return(slot);
}

TEST(Slots, TogetherKeepWhatOneMayKeep) {
  EXPECT_EQ(SlotPool::MaxKeptBytes(), SlotPool::kMaxKeptBytes);
  size_t kept = 0;
  {
    std::vector<std::unique_ptr<SlotPool>> pools(16);
    for (int i = 0; i < 8; ++i) pools[i] = std::make_unique<SlotPool>(nullptr);
    EXPECT_EQ(SlotPool::MaxKeptBytes(), SlotPool::kMaxKeptBytes / 8);
    for (int i = 0; i < 8; ++i) {
      Use(pools[i].get(), 20, SlotPool::kPayloadBytes);
      kept += pools[i]->kept_bytes();
    }
    EXPECT_LE(kept, SlotPool::kMaxKeptBytes);
    EXPECT_GT(kept, SlotPool::kMaxKeptBytes / 2);
    // Those that were there first give back, too, what is now too much.
    const size_t before = pools[0]->kept_bytes();
    for (int i = 8; i < 16; ++i) {
      pools[i] = std::make_unique<SlotPool>(nullptr);
    }
    Use(pools[0].get(), 20, 0);
    EXPECT_LE(pools[0]->kept_bytes(), before / 2);
  }
  EXPECT_EQ(SlotPool::MaxKeptBytes(), SlotPool::kMaxKeptBytes);
}

}  // namespace
}  // namespace bgfs::fuse
