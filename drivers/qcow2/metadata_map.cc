#include "drivers/qcow2/metadata_map.h"

#include <bit>

namespace bgfs::qcow2 {
namespace {

uint16_t BitOf(MetadataKind kind) {
  return static_cast<uint16_t>(1u << static_cast<unsigned>(kind));
}

}  // namespace

const char* NameOf(MetadataKind kind) {
  switch (kind) {
    case MetadataKind::kData:
      return "data";
    case MetadataKind::kHeader:
      return "the header";
    case MetadataKind::kL1Table:
      return "the L1 table";
    case MetadataKind::kL2Table:
      return "an L2 table";
    case MetadataKind::kRefcountTable:
      return "the refcount table";
    case MetadataKind::kRefcountBlock:
      return "a refcount block";
    case MetadataKind::kSnapshotTable:
      return "a table of snapshots";
    case MetadataKind::kBitmaps:
      return "a bitmap";
  }
  return "metadata";
}

void MetadataMap::Add(MetadataKind kind, HostOffset offset, int64_t bytes) {
  if (bytes <= 0) return;
  const int64_t last = geometry_.ClusterOf(offset + (bytes - 1)).value();
  for (int64_t i = geometry_.ClusterOf(offset).value(); i <= last; ++i) {
    kinds_[i] |= BitOf(kind);
  }
}

void MetadataMap::Remove(MetadataKind kind, HostOffset offset, int64_t bytes) {
  if (bytes <= 0) return;
  const int64_t last = geometry_.ClusterOf(offset + (bytes - 1)).value();
  for (int64_t i = geometry_.ClusterOf(offset).value(); i <= last; ++i) {
    const auto found = kinds_.find(i);
    if (found == kinds_.end()) continue;
    found->second &= static_cast<uint16_t>(~BitOf(kind));
    if (found->second == 0) kinds_.erase(found);
  }
}

MetadataKind MetadataMap::Overlap(HostOffset offset, int64_t bytes,
                                  MetadataKind own) const {
  if (bytes <= 0) return MetadataKind::kData;
  const int64_t last = geometry_.ClusterOf(offset + (bytes - 1)).value();
  for (int64_t i = geometry_.ClusterOf(offset).value(); i <= last; ++i) {
    const auto found = kinds_.find(i);
    if (found == kinds_.end()) continue;
    const unsigned others = found->second & ~unsigned{BitOf(own)};
    if (others != 0) return static_cast<MetadataKind>(std::countr_zero(others));
  }
  return MetadataKind::kData;
}

}  // namespace bgfs::qcow2
