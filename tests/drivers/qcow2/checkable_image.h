// An image whose metadata fits together, to be damaged word by word: version 3,
// clusters of 4 KiB, a disk of 1 MiB. Host clusters:
//
//   0 header   1 L1 table   2 L2 table   3 refcount table   4 refcount block
//   5 data of guest cluster 0   6 reserved for guest cluster 1, which is zeros
//   7 compressed data of guest clusters 2 and 3

#ifndef BGFS_TESTS_DRIVERS_QCOW2_CHECKABLE_IMAGE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_CHECKABLE_IMAGE_H_

#include <cstdint>
#include <string>

#include "drivers/qcow2/refcount_entries.h"
#include "tests/drivers/qcow2/crafted_image.h"

namespace bgfs::qcow2 {

class CheckableImage : public CraftedImage {
 public:
  static constexpr uint64_t kCluster = 4096;
  static constexpr uint64_t kTable = 3 * kCluster;
  static constexpr uint64_t kBlock = 4 * kCluster;

  CheckableImage() : CraftedImage(12) {
    header.refcount_table_offset = kTable;
    Resize(8 * kCluster);
    SetL2(0, kEntryCopied | 5 * kCluster);
    SetL2(1, kEntryCopied | 6 * kCluster | kEntryZero);
    SetCompressed(2, 7 * kCluster, 1);
    SetCompressed(3, 7 * kCluster + 700, 2);
    SetWord(kTable, kBlock);
    for (uint64_t i = 0; i < 7; ++i) SetRefcount(i, 1);
    SetRefcount(7, 2);
  }

  void SetCompressed(uint64_t index, uint64_t offset, uint64_t sectors) {
    SetL2(index, kEntryCompressed | (sectors - 1) << (62 - 4) | offset);
  }
  void SetRefcount(uint64_t cluster, uint16_t count) {
    Put(kBlock + cluster * 2,
        {static_cast<uint8_t>(count >> 8), static_cast<uint8_t>(count)});
  }
  void SetWord(uint64_t at, uint64_t word) {
    std::vector<uint8_t> bytes;
    StoreBig(bytes, 0, word, 8);
    Put(at, bytes);
  }
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_CHECKABLE_IMAGE_H_
