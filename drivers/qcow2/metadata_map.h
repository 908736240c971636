// MetadataMap: which clusters of the image file hold metadata, so that nothing
// is written over them by mistake of a damaged table or refcount. Asked before
// each write of metadata, each overwrite in place and each use of a cluster
// that the refcounts call free.

#ifndef BGFS_DRIVERS_QCOW2_METADATA_MAP_H_
#define BGFS_DRIVERS_QCOW2_METADATA_MAP_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "drivers/qcow2/types.h"

namespace bgfs::qcow2 {

enum class MetadataKind : uint8_t {
  kData,  // of the guest: none of the others
  kHeader,
  kL1Table,
  kL2Table,
  kRefcountTable,
  kRefcountBlock,
  kSnapshotTable,
  kBitmaps,
};

// "the header", "an L2 table".
const char* NameOf(MetadataKind kind);

// Owned by the driver of a writable image, used at its home only.
class MetadataMap {
 public:
  explicit MetadataMap(Geometry geometry) : geometry_(geometry) {}

  // All clusters that [offset, offset + bytes) touches.
  void Add(MetadataKind kind, HostOffset offset, int64_t bytes);
  void Remove(MetadataKind kind, HostOffset offset, int64_t bytes);

  // What other kind of metadata than `own` lies there; kData: none.
  MetadataKind Overlap(HostOffset offset, int64_t bytes,
                       MetadataKind own) const;

 private:
  const Geometry geometry_;
  absl::flat_hash_map<int64_t, uint16_t> kinds_;  // cluster → bits of kinds
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_METADATA_MAP_H_
