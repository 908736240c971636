#include "graph/async/buffer.h"

#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

// Sanitizers would end the process where malloc gives null.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}
// NOLINTEND(bugprone-reserved-identifier)

namespace bgfs {
namespace {

TEST(AlignedBuffer, IsAlignedAndAllItsOwn) {
  std::vector<AlignedBuffer> buffers;
  for (const int64_t bytes :
       {int64_t{1}, int64_t{512}, int64_t{4096}, int64_t{4097}, int64_t{65536},
        int64_t{100000}, int64_t{2} << 20, (int64_t{2} << 20) + 1}) {
    for (int i = 0; i < 3; ++i) {
      AlignedBuffer buffer = AlignedBuffer::Allocate(bytes);
      ASSERT_TRUE(buffer);
      EXPECT_EQ(buffer.size(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 4096, 0);
      buffers.push_back(std::move(buffer));
    }
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    std::memset(buffers[i].data(), static_cast<int>(i + 1),
                static_cast<size_t>(buffers[i].size()));
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    const char* data = buffers[i].data();
    EXPECT_EQ(data[0], static_cast<char>(i + 1));
    EXPECT_EQ(data[buffers[i].size() - 1], static_cast<char>(i + 1));
  }
}

TEST(AlignedBuffer, ShortageOfMemoryGivesNull) {
  EXPECT_FALSE(AlignedBuffer::Allocate(int64_t{1} << 60));
}

TEST(AlignedBuffer, MovesItsMemory) {
  AlignedBuffer first = AlignedBuffer::Allocate(4096);
  char* data = first.data();
  AlignedBuffer second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(second.data(), data);
  first = std::move(second);
  EXPECT_EQ(first.data(), data);
  EXPECT_EQ(first.view(512, 1024).data(), data + 512);
  EXPECT_EQ(first.view(512, 1024).size(), 1024);
}

TEST(AlignedBuffer, MayBeFreedOnAnotherThread) {
  for (int round = 0; round < 100; ++round) {
    std::vector<AlignedBuffer> buffers(10);
    for (size_t i = 0; i < buffers.size(); ++i) {
      buffers[i] = AlignedBuffer::Allocate(int64_t{512} << i);
    }
    std::thread([&buffers] { buffers.clear(); }).join();
  }
}

}  // namespace
}  // namespace bgfs
