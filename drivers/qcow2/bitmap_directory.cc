#include "drivers/qcow2/bitmap_directory.h"

#include <array>
#include <limits>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/byte_scan.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kEntryBytes = 24;
constexpr uint32_t kInUse = 1u << 0;
constexpr uint32_t kAuto = 1u << 1;
constexpr int kDirtyTracking = 1;
// QEMU's limits.
constexpr int64_t kMaxTableEntries = 0x8000000;
constexpr int64_t kMaxBitmapBytes = 0x20000000;
constexpr int kMinGranularityBits = 9;
constexpr int kMaxGranularityBits = 31;
constexpr uint32_t kMaxNameBytes = 1023;

template <typename... Parts>
absl::Status Malformed(const Parts&... parts) {
  return absl::InvalidArgumentError(
      absl::StrCat("the bitmap directory is damaged: ", parts...));
}

// Whether `entries` clusters hold a bit for each granule of the disk.
bool Covers(const BitmapEntry& entry, const Header& header) {
  const int64_t granularity = int64_t{1} << entry.granularity_bits;
  const int64_t granules = header.size_bytes / granularity +
                           (header.size_bytes % granularity != 0 ? 1 : 0);
  return granules <= entry.table_entries * header.geometry.cluster_size() * 8;
}

// What is wrong with an entry; null if nothing is.
const char* FaultOf(const BitmapEntry& entry, const Header& header) {
  if (entry.table.value() <= 0 || entry.table_entries == 0 ||
      entry.table_entries > kMaxTableEntries ||
      !header.geometry.IsClusterStart(entry.table)) {
    return "its table is not where a table could be";
  }
  if (entry.granularity_bits < kMinGranularityBits ||
      entry.granularity_bits > kMaxGranularityBits) {
    return "its granularity is out of range";
  }
  if ((entry.flags & ~(kInUse | kAuto)) != 0) return "it has unknown flags";
  if (entry.table_entries << header.geometry.cluster_bits() > kMaxBitmapBytes) {
    return "it is too large";
  }
  if ((entry.flags & kInUse) == 0 && !Covers(entry, header)) {
    return "it is shorter than the disk";
  }
  return nullptr;
}

}  // namespace

Task<absl::StatusOr<std::vector<BitmapEntry>>> ReadBitmapDirectory(
    Child& file, const Header& header) {
  std::vector<BitmapEntry> entries;
  const BitmapsExtension& extension = *header.bitmaps;
  const auto bytes = static_cast<int64_t>(extension.directory_bytes);
  if (extension.directory_offset >
      static_cast<uint64_t>(std::numeric_limits<int64_t>::max() / 2)) {
    co_return Malformed("it lies past the end of the file");
  }
  const HostOffset start(static_cast<int64_t>(extension.directory_offset));
  ByteScan scan(&file, start);
  for (uint32_t i = 0; i < extension.count; ++i) {
    std::array<uint8_t, kEntryBytes> head;
    const IoStatus read = co_await scan.Read(head.data(), kEntryBytes);
    if (!read.ok()) co_return read.ToStatus("reading the bitmap directory");
    BitmapEntry entry;
    entry.table = HostOffset(static_cast<int64_t>(LoadBig64(&head[0])));
    entry.table_entries = LoadBig32(&head[8]);
    entry.flags = LoadBig32(&head[12]);
    entry.granularity_bits = head[17];
    const uint32_t name_bytes = uint32_t{head[18]} << 8 | head[19];
    if (head[16] != kDirtyTracking || name_bytes == 0 ||
        name_bytes > kMaxNameBytes || LoadBig32(&head[20]) != 0) {
      co_return Malformed("bitmap ", i,
                          " has an unknown type or extra data, or no name");
    }
    if (const char* fault = FaultOf(entry, header); fault != nullptr) {
      co_return Malformed("bitmap ", i, ": ", fault);
    }
    scan.Skip((int64_t{name_bytes} + 7) / 8 * 8);
    if (scan.at() - start > bytes) {
      co_return Malformed("bitmap ", i, " does not fit into it");
    }
    entries.push_back(entry);
  }
  if (scan.at() - start != bytes) {
    co_return Malformed("it has ", bytes, " bytes, its entries ",
                        scan.at() - start);
  }
  co_return entries;
}

}  // namespace bgfs::qcow2
