#include "tests/fuzz/qcow2_sharing.h"

#include <cstdint>
#include <set>

#include "absl/types/span.h"
#include "drivers/qcow2/entries.h"
#include "drivers/qcow2/header.h"

namespace bgfs::qcow2 {
namespace {

using Image = absl::Span<const uint8_t>;

constexpr int64_t kEntryBytes = sizeof(uint64_t);

// What lies past the end of the file is zeros.
uint64_t EntryAt(Image image, HostOffset table, int64_t index) {
  const int64_t at = table.value() + index * kEntryBytes;
  const auto end = static_cast<int64_t>(image.size());
  return at > end - kEntryBytes ? 0 : LoadBig64(&image[at]);
}

class Clusters {
 public:
  explicit Clusters(Geometry geometry) : geometry_(geometry) {}

  // False if one of them is in use already.
  bool Add(HostOffset at, int64_t bytes) {
    const int64_t last = geometry_.ClusterOf(at + (bytes - 1)).value();
    for (int64_t i = geometry_.ClusterOf(at).value(); i <= last; ++i) {
      if (!used_.insert(i).second) return false;
    }
    return true;
  }

 private:
  const Geometry geometry_;
  std::set<int64_t> used_;
};

bool TableShares(Image image, const Header& header, HostOffset table,
                 Clusters* clusters) {
  const Geometry geometry = header.geometry;
  for (int64_t i = 0; i < geometry.l2_entries(); ++i) {
    const L2Entry entry =
        DecodeL2Entry(EntryAt(image, table, i), geometry, header.zero_flag());
    if (entry.host == HostOffset()) continue;
    const int64_t bytes = entry.kind == ClusterKind::kCompressed
                              ? entry.compressed_bytes
                              : geometry.cluster_size();
    if (!clusters->Add(entry.host, bytes)) return true;
  }
  return false;
}

}  // namespace

bool DiskSharesClusters(absl::string_view image) {
  const Image bytes(reinterpret_cast<const uint8_t*>(image.data()),
                    image.size());
  const absl::StatusOr<int64_t> first = FirstClusterBytes(bytes);
  if (!first.ok()) return false;
  const absl::StatusOr<Header> header =
      ParseHeader(bytes.subspan(0, static_cast<size_t>(*first)),
                  static_cast<int64_t>(bytes.size()));
  if (!header.ok()) return false;
  Clusters clusters(header->geometry);
  for (int64_t i = 0; i < header->l1_entries; ++i) {
    const L1Entry entry =
        DecodeL1Entry(EntryAt(bytes, header->l1_table, i), header->geometry);
    if (!entry.allocated()) continue;
    if (!clusters.Add(entry.l2_table, header->geometry.cluster_size()) ||
        TableShares(bytes, *header, entry.l2_table, &clusters)) {
      return true;
    }
  }
  return false;
}

}  // namespace bgfs::qcow2
