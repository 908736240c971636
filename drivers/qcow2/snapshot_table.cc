#include "drivers/qcow2/snapshot_table.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/byte_scan.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {
namespace {

// QEMU's limits.
constexpr uint32_t kMaxSnapshots = 65536;
constexpr uint32_t kMaxExtraBytes = 1024;
constexpr int64_t kMaxTableBytes = int64_t{kMaxSnapshots} * 1024;
constexpr int64_t kShownNameBytes = 64;

uint32_t LoadBig16(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 8 | bytes[1];
}

template <typename... Parts>
absl::Status Malformed(const Parts&... parts) {
  return absl::InvalidArgumentError(
      absl::StrCat("the snapshot table is damaged: ", parts...));
}

Task<IoStatus> ReadName(ByteScan& scan, int64_t bytes, std::string* name) {
  name->resize(static_cast<size_t>(std::min(bytes, kShownNameBytes)));
  const auto shown = static_cast<int64_t>(name->size());
  BGFS_CO_TRY(
      co_await scan.Read(reinterpret_cast<uint8_t*>(name->data()), shown));
  scan.Skip(bytes - shown);
  co_return IoStatus();
}

Task<IoStatus> ReadEntry(ByteScan& scan, SnapshotEntry* entry) {
  std::array<uint8_t, kSnapshotEntryBytes> head;
  const HostOffset start = scan.at();
  BGFS_CO_TRY(co_await scan.Read(head.data(), kSnapshotEntryBytes));
  entry->l1_table = LoadBig64(&head[0]);
  entry->l1_entries = LoadBig32(&head[8]);
  entry->extra_bytes = LoadBig32(&head[36]);
  scan.Skip(entry->extra_bytes);
  BGFS_CO_TRY(co_await ReadName(scan, LoadBig16(&head[12]), &entry->id));
  BGFS_CO_TRY(co_await ReadName(scan, LoadBig16(&head[14]), &entry->name));
  scan.Skip((8 - (scan.at() - start) % 8) % 8);
  co_return IoStatus();
}

}  // namespace

Task<absl::StatusOr<SnapshotTable>> ReadSnapshotTable(Child& file,
                                                      const Header& header) {
  SnapshotTable table;
  if (header.snapshot_count == 0) co_return table;
  if (header.snapshot_count > kMaxSnapshots) {
    co_return Malformed(header.snapshot_count, " snapshots, more than ",
                        kMaxSnapshots);
  }
  const uint64_t offset = header.snapshots_offset;
  if (offset > static_cast<uint64_t>(std::numeric_limits<int64_t>::max() -
                                     kMaxTableBytes * 2) ||
      offset % static_cast<uint64_t>(header.geometry.cluster_size()) != 0) {
    co_return Malformed("its offset ", offset, " is not that of a cluster");
  }
  const HostOffset start(static_cast<int64_t>(offset));
  ByteScan scan(&file, start);
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    SnapshotEntry entry;
    const IoStatus read = co_await ReadEntry(scan, &entry);
    if (!read.ok()) co_return read.ToStatus("reading the snapshot table");
    if (entry.extra_bytes > kMaxExtraBytes) {
      co_return Malformed("snapshot ", i, " has ", entry.extra_bytes,
                          " bytes of extra data, more than ", kMaxExtraBytes);
    }
    if (scan.at() - start > kMaxTableBytes) {
      co_return Malformed("it is longer than ", kMaxTableBytes, " bytes");
    }
    table.entries.push_back(std::move(entry));
  }
  table.bytes = scan.at() - start;
  co_return table;
}

}  // namespace bgfs::qcow2
