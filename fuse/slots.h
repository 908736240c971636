// The buffers of a /dev/fuse connection. A slot is one mapped stretch of
//
//   | page: ...... header (80) | payload, 1 MiB, page aligned |
//
// A message is read at page - 80 bytes: a WRITE's data, which follows 80 bytes
// of headers, then falls on the page. A reply's header is put just before the
// payload, so that header and data leave in one piece.
//
// Slots are made when they are needed and reused last in, first out, so that a
// quiet connection stays in few pages. Memory that was touched is given back
// when the connection is idle, or at once beyond the connection's share of
// kMaxKeptBytes, which all connections of the process have together.
#ifndef BGFS_FUSE_SLOTS_H_
#define BGFS_FUSE_SLOTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "fuse/transport.h"

namespace bgfs::fuse {

class SlotPool {
 public:
  static constexpr size_t kPageBytes = 4096;
  static constexpr size_t kHeaderBytes =
      sizeof(fuse_in_header) + sizeof(fuse_write_in);
  static constexpr uint32_t kPayloadBytes = 1 << 20;
  static constexpr size_t kMessageBytes = kHeaderBytes + kPayloadBytes;
  // Twice max_background: while all asynchronous I/O is parked, as many
  // others (a thread waits behind each) still come through.
  static constexpr size_t kMaxSlots = 1024;
  static constexpr size_t kMaxKeptBytes = size_t{64} << 20;
  // The share of one connection; smaller the more there are. From any thread.
  static size_t MaxKeptBytes();

  struct Slot : Exchange {
    Slot* next_free = nullptr;
    size_t kept_bytes = 0;  // of the payload, touched and not given back

    char* message() const { return payload - kHeaderBytes; }
    fuse_out_header* reply_header() const {
      return reinterpret_cast<fuse_out_header*>(payload -
                                                sizeof(fuse_out_header));
    }
  };

  // Gives zeroed memory, page aligned; MAP_FAILED if there is none.
  using Map = void* (*)(size_t bytes);
  static void* MapMemory(size_t bytes);

  explicit SlotPool(Transport* owner, Map map = MapMemory);
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;
  // All slots are back.
  ~SlotPool();

  // Null when all are in use, or memory is short.
  Slot* Take();
  void Return(Slot* slot);

  size_t in_use() const { return in_use_; }
  size_t kept_bytes() const { return kept_bytes_; }
  // Gives back the memory of the free slots.
  void Trim();

 private:
  static constexpr size_t kSlotsPerChunk = 16;
  static constexpr size_t kStride = kPageBytes + kPayloadBytes;

  struct Chunk {
    void* memory;
    std::unique_ptr<Slot[]> slots;
  };

  bool Grow();
  void GiveBack(Slot* slot);

  Transport* const owner_;
  const Map map_;
  std::vector<Chunk> chunks_;
  Slot* free_ = nullptr;
  size_t in_use_ = 0;
  size_t kept_bytes_ = 0;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_SLOTS_H_
