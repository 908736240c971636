// A disk in memory whose behaviour a test decides: it can stall, fail, and
// tells what it was asked. Blocks are allocated by writing; zeroing with
// kMayUnmap frees whole ones.
#ifndef BGFS_TESTS_FUSE_TEST_DRIVER_H_
#define BGFS_TESTS_FUSE_TEST_DRIVER_H_

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "graph/async/sync.h"
#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs::fuse {

class TestDriver final : public Driver {
 public:
  static constexpr int64_t kBlock = 4096;

  explicit TestDriver(int64_t size) { Resize(size); }

  absl::string_view format_name() const override { return "test"; }

  Task<IoStatus> Read(Request&, int64_t offset, IoView data) override {
    ++reads;
    while (stalled) co_await stalled_.Wait();
    data.CopyFrom(bytes_.data() + offset);
    co_return IoStatus();
  }
  Task<IoStatus> Write(Request&, int64_t offset, IoView data) override {
    ++writes;
    while (stalled) co_await stalled_.Wait();
    if (write_error != 0) co_return IoError(write_error);
    const int64_t end = offset + data.size();
    if (end > static_cast<int64_t>(bytes_.size())) Resize(end);
    data.CopyTo(bytes_.data() + offset);
    MarkAllocated(offset, end);
    co_return IoStatus();
  }
  Task<IoStatus> Zero(Request&, int64_t offset, int64_t bytes,
                      RequestFlags flags) override {
    ++zeroes;
    const int64_t end = offset + bytes;
    if (end > static_cast<int64_t>(bytes_.size())) Resize(end);
    std::memset(bytes_.data() + offset, 0, static_cast<size_t>(bytes));
    if ((flags & kMayUnmap) == 0) MarkAllocated(offset, end);
    for (int64_t block = AlignUp(offset, kBlock) / kBlock;
         (flags & kMayUnmap) != 0 && block < end / kBlock; ++block) {
      allocated_[static_cast<size_t>(block)] = false;
    }
    co_return IoStatus();
  }
  Task<IoStatus> Reserve(Request&, int64_t offset, int64_t bytes) override {
    if (!can_reserve) co_return IoError(ENOTSUP);
    MarkAllocated(offset, offset + bytes);
    co_return IoStatus();
  }
  Task<IoStatus> Truncate(Request&, int64_t size_bytes,
                          Preallocation) override {
    Resize(size_bytes);
    co_return IoStatus();
  }
  Task<IoStatus> FlushToDisk() override {
    ++flushes;
    co_return IoStatus::Errno(flush_error);
  }
  Task<IoResult<BlockStatus>> Status(Request&, int64_t offset, int64_t bytes,
                                     bool) override {
    const auto first = static_cast<size_t>(offset / kBlock);
    const bool data = allocated_[first];
    int64_t end = offset;
    for (size_t i = first; i < allocated_.size() && allocated_[i] == data;
         ++i) {
      end = static_cast<int64_t>(i + 1) * kBlock;
      if (block_by_block) break;
    }
    BlockStatus status;
    status.flags = data ? BlockStatus::kData | BlockStatus::kAllocated
                        : BlockStatus::kZero | BlockStatus::kAllocated;
    status.bytes = std::min(end - offset, bytes);
    co_return status;
  }
  Task<IoResult<int64_t>> AllocatedBytes() override {
    if (hide_allocation) co_return 0;
    co_return std::count(allocated_.begin(), allocated_.end(), true) * kBlock;
  }

  // At home.
  void Release() {
    stalled = false;
    stalled_.WakeAll();
  }

  // Set while nothing uses them, or read from any thread.
  std::atomic<bool> stalled{false};
  std::atomic<int> write_error{0};
  std::atomic<int> flush_error{0};
  std::atomic<bool> can_reserve{true};
  std::atomic<bool> hide_allocation{false};
  std::atomic<bool> block_by_block{false};  // a status covers no more
  std::atomic<int> reads{0};
  std::atomic<int> writes{0};
  std::atomic<int> zeroes{0};
  std::atomic<int> flushes{0};

 private:
  void Resize(int64_t size) {
    bytes_.resize(static_cast<size_t>(size), '\0');
    allocated_.resize(static_cast<size_t>(AlignUp(size, kBlock) / kBlock),
                      false);
  }
  void MarkAllocated(int64_t begin, int64_t end) {
    for (int64_t block = begin / kBlock; block * kBlock < end; ++block) {
      allocated_[static_cast<size_t>(block)] = true;
    }
  }

  std::string bytes_;
  std::vector<bool> allocated_;
  WaitQueue stalled_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_TESTS_FUSE_TEST_DRIVER_H_
