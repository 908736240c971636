// Images made by QEMU, and seeded damage to one kind of metadata in them: for
// comparing what bgfs and QEMU find and repair.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_DAMAGE_GEN_H_
#define BGFS_TESTS_DRIVERS_QCOW2_DAMAGE_GEN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace bgfs::qcow2 {

enum class DamageTo : uint8_t {
  kHeader,
  kL1,
  kL2,
  kRefcountTable,
  kRefcountBlock,
  kSnapshotTable,
  kSnapshotL1,
  kBitmapDirectory,
};

const char* NameOf(DamageTo kind);

struct GoodImage {
  std::string name;
  std::vector<uint8_t> bytes;
};

// Makes images of every cluster and refcount size that matters, both versions,
// with compression, snapshots, bitmaps, a backing file, in `folder`.
absl::Status MakeGoodImages(const std::string& folder,
                            std::vector<GoodImage>* images);

// [begin, end) of the file, as many as hold such metadata; none if the image
// has none.
std::vector<std::pair<uint64_t, uint64_t>> AreasOf(
    const std::vector<uint8_t>& image, DamageTo kind);

// Changes one to three places. `description` says which.
std::vector<uint8_t> DamageImage(const GoodImage& image, DamageTo kind,
                                 uint64_t seed, std::string* description);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_DAMAGE_GEN_H_
