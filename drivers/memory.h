// The memory driver: a disk in memory, all zeros at first and gone at the end.
// It is the driver to read first: it shows every virtual that a driver may
// have, with nothing else in the way.
//
// The bytes live in chunks of 64 KiB, which exist from the first write into
// them until a discard or an unmapping zero covers them whole. What has no
// chunk reads as zeros. A chunk's bytes past the end of the disk are zeros.

#ifndef BGFS_DRIVERS_MEMORY_H_
#define BGFS_DRIVERS_MEMORY_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/container/btree_map.h"
#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs {

class MemoryDriver final : public Driver {
 public:
  explicit MemoryDriver(int64_t size_bytes) : initial_size_(size_bytes) {}

  // Once the node has been added, before any request.
  Task<absl::Status> Open() override;

  absl::string_view format_name() const override { return "memory"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;
  Task<void> Close() override;

 private:
  static constexpr int64_t kChunkBytes = int64_t{64} << 10;
  using Chunk = std::array<char, kChunkBytes>;

  // The chunk with this number, made if need be; null when memory is short.
  Chunk* GetChunk(int64_t number);
  // Zeroes the range; chunks that it covers whole go when `free`.
  void Clear(int64_t offset, int64_t bytes, bool free);

  const int64_t initial_size_;
  // By number: a chunk begins at number * kChunkBytes.
  absl::btree_map<int64_t, std::unique_ptr<Chunk>> chunks_;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_MEMORY_H_
