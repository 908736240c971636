// A small qcow2 image written entry by entry, so that a test can say anything
// in it. Host clusters: 0 the header, 1 the L1 table, 2 the L2 table of the
// first entries, data from cluster 3 on.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_CRAFTED_IMAGE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_CRAFTED_IMAGE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/drivers/qcow2/file_bytes.h"
#include "tests/drivers/qcow2/raw_header.h"

namespace bgfs::qcow2 {

class CraftedImage {
 public:
  explicit CraftedImage(uint32_t cluster_bits = 16, uint64_t size = 1 << 20) {
    header.cluster_bits = cluster_bits;
    header.size = size;
    header.l1_offset = uint64_t{1} << cluster_bits;
    bytes_.resize(size_t{3} << cluster_bits);
    SetL1(0, kEntryCopied | (uint64_t{2} << cluster_bits));
  }

  uint64_t cluster_size() const { return uint64_t{1} << header.cluster_bits; }
  void SetL1(uint64_t index, uint64_t entry) {
    StoreBig(bytes_, cluster_size() + index * 8, entry, 8);
  }
  void SetL2(uint64_t index, uint64_t entry) {
    StoreBig(bytes_, 2 * cluster_size() + index * 8, entry, 8);
  }
  // Puts `data` at `offset` of the file.
  void Put(uint64_t offset, const std::vector<uint8_t>& data) {
    if (bytes_.size() < offset + data.size()) {
      bytes_.resize(offset + data.size());
    }
    std::copy(data.begin(), data.end(),
              bytes_.begin() + static_cast<int64_t>(offset));
  }
  void Resize(uint64_t bytes) { bytes_.resize(bytes); }

  std::vector<uint8_t> Bytes() const {
    std::vector<uint8_t> all = bytes_;
    const std::vector<uint8_t> first = header.Serialize();
    std::copy_n(first.begin(), std::min(first.size(), all.size()), all.begin());
    return all;
  }
  void Write(const std::string& path) const { StoreFile(path, Bytes()); }

  RawHeader header;

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_CRAFTED_IMAGE_H_
