#include "graph/async/buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <vector>

#include "graph/async/check.h"
#include "graph/async/frame_pool.h"

namespace bgfs {
namespace {

constexpr int kSmallestLog2 = 12;
constexpr int kLargestLog2 = 21;  // larger ones are not kept
// What a thread keeps idle in each size: 256 KiB, and at least one buffer.
constexpr int64_t kIdleBytes = int64_t{256} << 10;

class ThreadCache {
 public:
  ~ThreadCache() {
    for (auto& list : lists_) {
      for (char* data : list) std::free(data);
      list.clear();
    }
    dead_ = true;
  }

  char* Take(int log2) {
    auto& list = lists_[static_cast<size_t>(log2 - kSmallestLog2)];
    if (list.empty()) return nullptr;
    char* data = list.back();
    list.pop_back();
    return data;
  }

  bool Keep(char* data, int log2) {
    if (!kCacheMemory || dead_) return false;
    auto& list = lists_[static_cast<size_t>(log2 - kSmallestLog2)];
    const int64_t limit = std::max<int64_t>(1, kIdleBytes >> log2);
    if (static_cast<int64_t>(list.size()) >= limit) return false;
    list.push_back(data);
    return true;
  }

 private:
  std::array<std::vector<char*>, kLargestLog2 - kSmallestLog2 + 1> lists_;
  bool dead_ = false;
};

thread_local ThreadCache cache;

int SizeClass(int64_t bytes) {
  const auto log2 = std::bit_width(static_cast<uint64_t>(bytes - 1));
  return std::max(static_cast<int>(log2), kSmallestLog2);
}

}  // namespace

AlignedBuffer AlignedBuffer::Allocate(int64_t bytes) {
  BGFS_CHECK(bytes > 0);
  const int log2 = SizeClass(bytes);
  AlignedBuffer buffer;
  if (log2 <= kLargestLog2) buffer.data_ = cache.Take(log2);
  if (buffer.data_ == nullptr) {
    buffer.data_ =
        static_cast<char*>(std::aligned_alloc(kAlignment, size_t{1} << log2));
  }
  if (buffer.data_ != nullptr) buffer.bytes_ = bytes;
  return buffer;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  const int log2 = SizeClass(bytes_);
  if (log2 > kLargestLog2 || !cache.Keep(data_, log2)) std::free(data_);
}

}  // namespace bgfs
