// What a qcow2 image looks like on disk. Section names in quotes are those of
// the specification (QEMU's docs/interop/qcow2.rst). All numbers are big
// endian.
//
// The first cluster ("Header"):
//
//   offset size
//        0    4  magic "QFI\xfb"
//        4    4  version, 2 or 3
//        8    8  backing_file_offset, 0 = no backing file
//       16    4  backing_file_size, at most 1023
//       20    4  cluster_bits, 9..21
//       24    8  size of the guest's disk in bytes
//       32    4  crypt_method: 0 none, 1 AES, 2 LUKS
//       36    4  l1_size, in entries
//       40    8  l1_table_offset
//       48    8  refcount_table_offset
//       56    4  refcount_table_clusters
//       60    4  nb_snapshots
//       64    8  snapshots_offset
//       72       version 2 ends here
//       72    8  incompatible_features
//       80    8  compatible_features
//       88    8  autoclear_features
//       96    4  refcount_order, 0..6
//      100    4  header_length, a multiple of 8, at least 104
//      104    1  compression_type, if header_length is larger than 104
//      105    7  padding
//
// then, from header_length on, "Header extensions", each
//
//        0    4  type, 0 ends the list
//        4    4  length of the data
//        8    n  data, padded to a multiple of 8
//
// then the backing file name, which ends within the first cluster.
//
// Tables ("Cluster mapping"): the L1 table is l1_size entries of 64 bits, in
// one piece; each points to an L2 table, one cluster of 64-bit entries.
//
//   L1 entry   63 COPIED | 62..56 0 | 55..9 offset of the L2 table | 8..0 0
//   L2 entry   63 COPIED | 62 = 0 | 61..56 0 | 55..9 offset | 8..1 0 | 0 ZERO
//          or  63 0 | 62 = 1 | 61..x additional sectors | x-1..0 offset
//              with x = 62 - (cluster_bits - 8); the offset counts bytes

#ifndef BGFS_DRIVERS_QCOW2_FORMAT_H_
#define BGFS_DRIVERS_QCOW2_FORMAT_H_

#include <bit>
#include <cstdint>
#include <cstring>

namespace bgfs::qcow2 {

static_assert(std::endian::native == std::endian::little);

// The big-endian number at `bytes`, which need not be aligned.
inline uint32_t LoadBig32(const uint8_t* bytes) {
  uint32_t raw;
  std::memcpy(&raw, bytes, sizeof(raw));
  return __builtin_bswap32(raw);
}

inline uint64_t FromBig64(uint64_t raw) { return __builtin_bswap64(raw); }

inline uint64_t LoadBig64(const uint8_t* bytes) {
  uint64_t raw;
  std::memcpy(&raw, bytes, sizeof(raw));
  return FromBig64(raw);
}

inline void StoreBig32(uint8_t* bytes, uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(bytes, &value, sizeof(value));
}

inline void StoreBig64(uint8_t* bytes, uint64_t value) {
  value = FromBig64(value);
  std::memcpy(bytes, &value, sizeof(value));
}

// Where fields of the header stand.
inline constexpr int64_t kSizeAt = 24;
inline constexpr int64_t kL1SizeAt = 36;
inline constexpr int64_t kL1TableAt = 40;
inline constexpr int64_t kRefcountTableAt = 48;
inline constexpr int64_t kRefcountTableClustersAt = 56;
inline constexpr int64_t kIncompatibleAt = 72;
inline constexpr int64_t kAutoclearAt = 88;

inline constexpr uint32_t kMagic = 0x514649fb;
inline constexpr int64_t kVersion2HeaderBytes = 72;
inline constexpr int64_t kVersion3HeaderBytes = 104;
inline constexpr int64_t kCompressionTypeAt = 104;
inline constexpr int64_t kMaxBackingNameBytes = 1023;
inline constexpr int kMinClusterBits = 9;
inline constexpr int kMaxClusterBits = 21;
inline constexpr int kMaxRefcountOrder = 6;
inline constexpr int kVersion2RefcountOrder = 4;

// QEMU's limit, stated in "Header" under `size`; ours too, so that a header
// cannot ask for more memory than that.
inline constexpr int64_t kMaxL1Bytes = int64_t{32} << 20;

enum CryptMethod : uint32_t {
  kCryptNone = 0,
  kCryptAes = 1,
  kCryptLuks = 2,
};

// Bits of incompatible_features.
inline constexpr uint64_t kIncompatibleDirty = 1u << 0;
inline constexpr uint64_t kIncompatibleCorrupt = 1u << 1;
inline constexpr uint64_t kIncompatibleDataFile = 1u << 2;
inline constexpr uint64_t kIncompatibleCompression = 1u << 3;
inline constexpr uint64_t kIncompatibleExtendedL2 = 1u << 4;

// Bits of compatible_features and autoclear_features.
inline constexpr uint64_t kCompatibleLazyRefcounts = 1u << 0;
inline constexpr uint64_t kAutoclearBitmaps = 1u << 0;
inline constexpr uint64_t kAutoclearRawDataFile = 1u << 1;

enum class CompressionType : uint8_t { kDeflate = 0, kZstd = 1 };

// "Header extensions".
enum ExtensionType : uint32_t {
  kExtensionEnd = 0,
  kExtensionBackingFormat = 0xe2792aca,
  kExtensionFeatureNames = 0x6803f857,
  kExtensionBitmaps = 0x23852875,
  kExtensionCryptHeader = 0x0537be77,
  kExtensionDataFile = 0x44415441,
};
inline constexpr int64_t kExtensionHeadBytes = 8;
inline constexpr int64_t kFeatureNameEntryBytes = 48;
inline constexpr int64_t kBitmapsExtensionBytes = 24;

// Bits of L1 and L2 entries.
inline constexpr uint64_t kEntryCopied = uint64_t{1} << 63;
inline constexpr uint64_t kEntryCompressed = uint64_t{1} << 62;
inline constexpr uint64_t kEntryZero = 1;
inline constexpr uint64_t kEntryOffsetMask = 0x00fffffffffffe00;
inline constexpr uint64_t kL1Reserved = 0x7f000000000001ff;
inline constexpr uint64_t kL2StandardReserved = 0x3f000000000001fe;
// QEMU's limit; ours too.
inline constexpr int64_t kMaxRefcountTableBytes = int64_t{8} << 20;
inline constexpr int64_t kCompressedSectorBytes = 512;
// A host offset has at most 56 bits.
inline constexpr uint64_t kHostOffsetLimit = uint64_t{1} << 56;

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_FORMAT_H_
