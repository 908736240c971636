// The snapshot table ("Snapshots"): entries of variable length, one after the
// other, each padded to a multiple of 8:
//
//   offset size
//        0    8  offset of the snapshot's L1 table
//        8    4  its entries
//       12    2  length of the id
//       14    2  length of the name
//       16   20  times, size of the VM state
//       36    4  length of the extra data; at least 16 in version 3
//       40       extra data, id, name

#ifndef BGFS_DRIVERS_QCOW2_SNAPSHOT_TABLE_H_
#define BGFS_DRIVERS_QCOW2_SNAPSHOT_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "drivers/qcow2/header.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

inline constexpr int64_t kSnapshotEntryBytes = 40;
// What version 3 demands: the size of the VM state and that of the disk.
inline constexpr uint32_t kSnapshotExtraNeeded = 16;

struct SnapshotEntry {
  uint64_t l1_table = 0;  // unchecked
  uint32_t l1_entries = 0;
  uint32_t extra_bytes = 0;
  // Their first 64 bytes, for messages.
  std::string id;
  std::string name;
};

struct SnapshotTable {
  std::vector<SnapshotEntry> entries;
  int64_t bytes = 0;  // of the whole table
};

// Reads the table that `header` points to. InvalidArgument, one phrase, where
// QEMU would not read it: too many or too long entries, a wrong place.
Task<absl::StatusOr<SnapshotTable>> ReadSnapshotTable(Child& file,
                                                      const Header& header);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_SNAPSHOT_TABLE_H_
