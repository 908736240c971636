#include "drivers/qcow2/cluster_counts.h"

#include <algorithm>

namespace bgfs::qcow2 {

ClusterCounts::Chunk* ClusterCounts::Find(int64_t number) const {
  if (number == last_number_) return last_;
  const auto found = chunks_.find(number);
  if (found == chunks_.end()) return nullptr;
  last_number_ = number;
  last_ = found->second.get();
  return last_;
}

ClusterCounts::Chunk* ClusterCounts::FindOrAdd(int64_t number) {
  if (Chunk* const chunk = Find(number); chunk != nullptr) return chunk;
  if (!budget_->Take(kChunkBytes)) return nullptr;
  taken_ += kChunkBytes;
  chunks_.emplace(number, std::make_unique<Chunk>());
  return Find(number);
}

void ClusterCounts::Add(int64_t cluster, uint64_t references) {
  if (references == 0) return;
  Chunk* const chunk = FindOrAdd(cluster / kChunk);
  if (chunk == nullptr) return;
  end_ = std::max(end_, cluster + 1);
  uint8_t& count = chunk->counts[static_cast<size_t>(cluster % kChunk)];
  if (count == kLarge) {
    large_[cluster] += references;
  } else if (references < uint64_t{kLarge} - count) {
    count = static_cast<uint8_t>(count + references);
  } else if (budget_->Take(kLargeBytes)) {
    taken_ += kLargeBytes;
    large_.emplace(cluster, count + references);
    count = kLarge;
  }
}

uint64_t ClusterCounts::Get(int64_t cluster) const {
  const Chunk* const chunk = Find(cluster / kChunk);
  if (chunk == nullptr) return 0;
  const uint8_t count = chunk->counts[static_cast<size_t>(cluster % kChunk)];
  return count == kLarge ? large_.at(cluster) : count;
}

void ClusterCounts::SetFlag(int64_t cluster, int flag) {
  Chunk* const chunk = FindOrAdd(cluster / kChunk);
  if (chunk != nullptr) chunk->flags[flag].set(cluster % kChunk);
}

bool ClusterCounts::HasFlag(int64_t cluster, int flag) const {
  const Chunk* const chunk = Find(cluster / kChunk);
  return chunk != nullptr && chunk->flags[flag].test(cluster % kChunk);
}

int64_t ClusterCounts::NextUsed(int64_t from) const {
  for (auto it = chunks_.lower_bound(from / kChunk); it != chunks_.end();
       ++it) {
    const int64_t start = it->first * kChunk;
    for (int64_t i = std::max<int64_t>(0, from - start); i < kChunk; ++i) {
      if (it->second->Used(static_cast<size_t>(i))) return start + i;
    }
  }
  return -1;
}

void ClusterCounts::Clear() {
  chunks_.clear();
  large_.clear();
  last_number_ = -1;
  last_ = nullptr;
  end_ = 0;
  budget_->GiveBack(taken_);
  taken_ = 0;
}

}  // namespace bgfs::qcow2
