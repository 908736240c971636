// The words the graph speaks in: rights, flags, limits, block status. Offsets
// and lengths are bytes everywhere, signed 64-bit, `offset, bytes` in that
// order. engine.md gives the contract.

#ifndef BGFS_GRAPH_TYPES_H_
#define BGFS_GRAPH_TYPES_H_

#include <cstdint>
#include <limits>
#include <string>

namespace bgfs {

class Child;
class Driver;
class Node;

// Rights on a node (engine.md, 4). The bit order is that of QEMU's image locks.
using Permissions = uint32_t;
inline constexpr Permissions kConsistentRead = 1u << 0;
inline constexpr Permissions kWrite = 1u << 1;
inline constexpr Permissions kWriteUnchanged = 1u << 2;
inline constexpr Permissions kResize = 1u << 3;
inline constexpr int kPermissionCount = 4;
inline constexpr Permissions kAllPermissions = (1u << kPermissionCount) - 1;

// "consistent read, write"; "nothing" for none.
std::string PermissionNames(Permissions permissions);

struct PermissionSet {
  Permissions used = 0;                  // what the holder of the edge does
  Permissions shared = kAllPermissions;  // what it lets others do
};

// Flags of a request.
using RequestFlags = uint32_t;
// A zero request may free the space it covers.
inline constexpr RequestFlags kMayUnmap = 1u << 0;
// The request is serialising over its range, whatever the driver says.
inline constexpr RequestFlags kSerialise = 1u << 1;
// EBUSY where the request would have to wait for another one.
inline constexpr RequestFlags kNoWait = 1u << 2;
// A zero request that the driver cannot do fails with ENOTSUP, instead of
// writing zeros: for whoever knows a better way.
inline constexpr RequestFlags kNoFallback = 1u << 3;
// Force unit access: what a write or a zero request has changed is durable
// before it ends. The driver sees to it if it has_fua(), else a flush does.
inline constexpr RequestFlags kFua = 1u << 4;
// The data is what a reader sees there already, as copy-on-read writes it: the
// right to WRITE_UNCHANGED is enough.
inline constexpr RequestFlags kUnchanged = 1u << 5;
// A read leaves what it got from below a node in that node: kWriteUnchanged is
// needed too. Without effect on a read-only node and where nothing is below.
inline constexpr RequestFlags kCopyOnRead = 1u << 6;

// What a filter hands on to its child as it got it. kMayUnmap is an argument of
// Driver::Zero, kSerialise is about one node.
inline constexpr RequestFlags kFilterPassesOn =
    kNoWait | kNoFallback | kFua | kUnchanged | kCopyOnRead;

// The rights of which one is enough for a write with these flags.
constexpr Permissions WriteRights(RequestFlags flags) {
  return (flags & kUnchanged) != 0 ? kWrite | kWriteUnchanged : kWrite;
}

enum class RequestKind : uint8_t { kRead, kWrite, kDiscard, kTruncate };

// [offset, offset + bytes); empty when bytes is 0.
struct Range {
  static constexpr int64_t kToInfinity = std::numeric_limits<int64_t>::max();

  int64_t offset = 0;
  int64_t bytes = 0;

  static Range FromTo(int64_t begin, int64_t end) {
    return end > begin ? Range{begin, end - begin} : Range{};
  }
  bool empty() const { return bytes == 0; }
  // Saturates, so that a range may reach to infinity.
  int64_t end() const {
    return bytes > kToInfinity - offset ? kToInfinity : offset + bytes;
  }
  bool Overlaps(const Range& other) const {
    return offset < other.end() && other.offset < end();
  }
  bool Contains(const Range& other) const {
    return other.empty() || (offset <= other.offset && other.end() <= end());
  }
  // The smallest range that holds both; an empty one adds nothing.
  Range Union(const Range& other) const;
  // Rounded outwards to `alignment`, any positive number.
  Range AlignedTo(int64_t alignment) const;
};

constexpr int64_t AlignDown(int64_t value, int64_t alignment) {
  return value - value % alignment;
}
// `value` must be so that the result fits.
constexpr int64_t AlignUp(int64_t value, int64_t alignment) {
  return AlignDown(value + (alignment - 1), alignment);
}

// The largest node, in bytes (QEMU's too): an offset in it can be rounded up to
// any request_alignment. Nothing grows beyond it (EFBIG).
inline constexpr int64_t kMaxNodeBytes =
    AlignDown(Range::kToInfinity, int64_t{1} << 30);

// What a node asks of its requests, or prefers (engine.md, 2.11). 0 in a
// maximum means none.
struct Limits {
  // Offset and length of what the driver is handed are multiples of it (the
  // length also where a request ends with the node); the engine does the
  // read-modify-write. A power of two.
  int64_t request_alignment = 1;
  int64_t max_transfer = 0;        // of one read or write
  int64_t max_hw_transfer = 0;     // of one direct transfer, set by a device
  int64_t opt_transfer = 0;        // preferred size
  int64_t max_pdiscard = 0;        // of one discard
  int64_t pdiscard_alignment = 0;  // below it a discard frees nothing
  int64_t max_pwrite_zeroes = 0;   // of one zero request
  int64_t pwrite_zeroes_alignment = 0;  // below it zeros are plain writes
  // Of a layer over another: what is copied up from below is whole units of
  // this (a format's clusters), a multiple of request_alignment. 0: nothing is
  // ever copied up.
  int64_t copy_alignment = 0;
  int64_t min_memory_alignment = 1;
  int64_t opt_memory_alignment = 4096;
  int max_iov = 1024;  // pieces of one transfer
  int max_hw_iov = 0;  // pieces of one direct transfer, set by a device
};

// What is known of the bytes at an offset (engine.md, 2.9).
struct BlockStatus {
  static constexpr uint32_t kData = 1u << 0;  // reads from this layer's data
  static constexpr uint32_t kZero = 1u << 1;  // reads as zeros
  // The content is decided by this layer (else by its backing layer).
  static constexpr uint32_t kAllocated = 1u << 2;
  // The bytes stand as they are at `file_offset` of `file`.
  static constexpr uint32_t kRaw = 1u << 3;
  static constexpr uint32_t kEof = 1u << 4;  // ends at the end of the node

  uint32_t flags = 0;
  int64_t bytes = 0;     // how far it holds from the offset asked; 0 only
                         // for an empty range
  Node* file = nullptr;  // with kRaw
  int64_t file_offset = 0;
};

// What becomes of a write of zeros (engine.md, 2.4): a zero request, which may
// free the space as well. kUnmap is for nodes with NodeOptions::unmap.
enum class DetectZeroes : uint8_t { kOff, kOn, kUnmap };

// The ends of a copy (engine.md, 2.10) while it looks for a way to offload it:
// where it is to go, and the leaf where it was found to come from.
struct CopyTarget {
  Child* edge;
  int64_t offset;
  RequestFlags flags;  // of the write
};
struct CopySource {
  Driver* leaf;
  int64_t offset;
};

// How a truncate sets the new size (engine.md, 2.8).
enum class Preallocation : uint8_t { kOff, kMetadata, kFalloc, kFull };

}  // namespace bgfs

#endif  // BGFS_GRAPH_TYPES_H_
