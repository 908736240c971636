// A qcow2 header as bytes, field by field, so that tests can say what is wrong
// with it. The defaults are a good version 3 header of a 1 MiB disk with 64 KiB
// clusters whose L1 table is in the file's second cluster.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_RAW_HEADER_H_
#define BGFS_TESTS_DRIVERS_QCOW2_RAW_HEADER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {

inline void StoreBig(std::vector<uint8_t>& to, size_t at, uint64_t value,
                     int bytes) {
  if (to.size() < at + bytes) to.resize(at + bytes);
  for (int i = 0; i < bytes; ++i) {
    to[at + i] = static_cast<uint8_t>(value >> (8 * (bytes - 1 - i)));
  }
}

struct RawHeader {
  uint32_t magic = kMagic;
  uint32_t version = 3;
  uint64_t backing_offset = 0;
  uint32_t backing_bytes = 0;
  uint32_t cluster_bits = 16;
  uint64_t size = 1 << 20;
  uint32_t crypt_method = 0;
  uint32_t l1_size = 1;
  uint64_t l1_offset = 1 << 16;
  uint64_t refcount_table_offset = 2 << 16;
  uint32_t refcount_table_clusters = 1;
  uint32_t snapshots = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0;
  uint64_t compatible = 0;
  uint64_t autoclear = 0;
  uint32_t refcount_order = 4;
  uint32_t header_length = 112;
  uint8_t compression_type = 0;
  std::string more_fields;  // what lies after compression_type
  std::vector<std::pair<uint32_t, std::string>> extensions;
  std::string backing_name;  // stored after the extensions if not empty

  // The first cluster; cut to `bytes` if given.
  std::vector<uint8_t> Serialize(size_t bytes = 0) const {
    std::vector<uint8_t> out;
    StoreBig(out, 0, magic, 4);
    StoreBig(out, 4, version, 4);
    StoreBig(out, 20, cluster_bits, 4);
    StoreBig(out, 24, size, 8);
    StoreBig(out, 32, crypt_method, 4);
    StoreBig(out, 36, l1_size, 4);
    StoreBig(out, 40, l1_offset, 8);
    StoreBig(out, 48, refcount_table_offset, 8);
    StoreBig(out, 56, refcount_table_clusters, 4);
    StoreBig(out, 60, snapshots, 4);
    StoreBig(out, 64, snapshots_offset, 8);
    size_t at = kVersion2HeaderBytes;
    if (version >= 3) {
      StoreBig(out, 72, incompatible, 8);
      StoreBig(out, 80, compatible, 8);
      StoreBig(out, 88, autoclear, 8);
      StoreBig(out, 96, refcount_order, 4);
      StoreBig(out, 100, header_length, 4);
      at = kVersion3HeaderBytes;
      if (header_length > at) {
        StoreBig(out, at, compression_type, 1);
        out.insert(out.end(), more_fields.begin(), more_fields.end());
        at = header_length;
      }
    }
    out.resize(at);
    for (const auto& [type, data] : extensions) {
      StoreBig(out, out.size(), type, 4);
      StoreBig(out, out.size(), data.size(), 4);
      out.insert(out.end(), data.begin(), data.end());
      out.resize((out.size() + 7) / 8 * 8);
    }
    out.resize(out.size() + 8);
    uint64_t name_at = backing_offset;
    uint32_t name_bytes = backing_bytes;
    if (!backing_name.empty()) {
      if (name_at == 0) name_at = out.size();
      if (name_bytes == 0) name_bytes = backing_name.size();
      out.insert(out.end(), backing_name.begin(), backing_name.end());
    }
    StoreBig(out, 8, name_at, 8);
    StoreBig(out, 16, name_bytes, 4);
    const bool sane = cluster_bits >= 9 && cluster_bits <= 21;
    out.resize(sane ? size_t{1} << cluster_bits : 65536);
    if (bytes != 0) out.resize(bytes);
    return out;
  }
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_RAW_HEADER_H_
