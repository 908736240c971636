#include "drivers/memory.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace bgfs {

Task<absl::Status> MemoryDriver::Open() {
  node().SetSize(initial_size_);
  co_return absl::OkStatus();
}

Task<IoStatus> MemoryDriver::Read(Request&, int64_t offset, IoView data) {
  for (int64_t done = 0; done < data.size();) {
    const int64_t at = offset + done;
    const int64_t in_chunk = at % kChunkBytes;
    const int64_t bytes = std::min(kChunkBytes - in_chunk, data.size() - done);
    const IoView part = data.Slice(done, bytes);
    if (auto it = chunks_.find(at / kChunkBytes); it != chunks_.end()) {
      part.CopyFrom(it->second->data() + in_chunk);
    } else {
      part.Zero();
    }
    done += bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> MemoryDriver::Write(Request&, int64_t offset, IoView data) {
  for (int64_t done = 0; done < data.size();) {
    const int64_t at = offset + done;
    const int64_t in_chunk = at % kChunkBytes;
    const int64_t bytes = std::min(kChunkBytes - in_chunk, data.size() - done);
    Chunk* chunk = GetChunk(at / kChunkBytes);
    if (chunk == nullptr) co_return IoError(ENOMEM);
    data.Slice(done, bytes).CopyTo(chunk->data() + in_chunk);
    done += bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> MemoryDriver::Zero(Request&, int64_t offset, int64_t bytes,
                                  RequestFlags flags) {
  Clear(offset, bytes, (flags & kMayUnmap) != 0);
  co_return IoStatus();
}

Task<IoStatus> MemoryDriver::Discard(Request&, int64_t offset, int64_t bytes) {
  Clear(offset, bytes, /*free=*/true);
  co_return IoStatus();
}

Task<IoStatus> MemoryDriver::Reserve(Request&, int64_t offset, int64_t bytes) {
  const int64_t last = (offset + bytes - 1) / kChunkBytes;
  for (int64_t number = offset / kChunkBytes; number <= last; ++number) {
    if (GetChunk(number) == nullptr) co_return IoError(ENOSPC);
  }
  co_return IoStatus();
}

Task<IoStatus> MemoryDriver::Truncate(Request&, int64_t size_bytes,
                                      Preallocation preallocation) {
  if (preallocation != Preallocation::kOff) co_return IoError(ENOTSUP);
  // Also what a write that failed left past the end.
  Clear(size_bytes, Range::kToInfinity - size_bytes, /*free=*/true);
  co_return IoStatus();
}

Task<IoResult<BlockStatus>> MemoryDriver::Status(Request&, int64_t offset,
                                                 int64_t bytes, bool) {
  BlockStatus status;
  auto it = chunks_.lower_bound(offset / kChunkBytes);
  int64_t end = offset + bytes;
  if (it != chunks_.end() && it->first == offset / kChunkBytes) {
    status.flags = BlockStatus::kData | BlockStatus::kAllocated;
    int64_t next = it->first;
    for (; it != chunks_.end() && it->first == next; ++it) {
      if (++next * kChunkBytes >= end) break;
    }
    end = std::min(end, next * kChunkBytes);
  } else {
    status.flags = BlockStatus::kZero | BlockStatus::kAllocated;
    if (it != chunks_.end()) end = std::min(end, it->first * kChunkBytes);
  }
  status.bytes = end - offset;
  co_return status;
}

Task<IoResult<int64_t>> MemoryDriver::AllocatedBytes() {
  co_return static_cast<int64_t>(chunks_.size()) * kChunkBytes;
}

Task<void> MemoryDriver::Close() {
  chunks_.clear();
  co_return;
}

MemoryDriver::Chunk* MemoryDriver::GetChunk(int64_t number) {
  auto it = chunks_.find(number);
  if (it == chunks_.end()) {
    std::unique_ptr<Chunk> chunk(new (std::nothrow) Chunk());
    if (chunk == nullptr) return nullptr;
    it = chunks_.emplace(number, std::move(chunk)).first;
  }
  return it->second.get();
}

void MemoryDriver::Clear(int64_t offset, int64_t bytes, bool free) {
  const int64_t end = offset + bytes;
  auto it = chunks_.lower_bound(offset / kChunkBytes);
  while (it != chunks_.end() && it->first * kChunkBytes < end) {
    const int64_t start = it->first * kChunkBytes;
    const int64_t from = std::max(offset - start, int64_t{0});
    const int64_t to = std::min(end - start, kChunkBytes);
    if (free && to - from == kChunkBytes) {
      it = chunks_.erase(it);
    } else {
      std::memset(it->second->data() + from, 0, static_cast<size_t>(to - from));
      ++it;
    }
  }
}

}  // namespace bgfs
