// The bitmap directory ("Bitmap directory"): entries of variable length, each
// padded to a multiple of 8:
//
//   offset size
//        0    8  offset of the bitmap table
//        8    4  its entries
//       12    4  flags: 0 in_use, 1 auto, 2 extra_data_compatible
//       16    1  type, 1
//       17    1  granularity_bits
//       18    2  length of the name
//       20    4  length of the extra data
//       24       extra data, name
//
// An entry of a bitmap table has the offset of a cluster of bits in 55..9, or
// none, and then in bit 0 whether all of the bits are set ("Bitmap table").

#ifndef BGFS_DRIVERS_QCOW2_BITMAP_DIRECTORY_H_
#define BGFS_DRIVERS_QCOW2_BITMAP_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "drivers/qcow2/header.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

inline constexpr uint64_t kBitmapTableReserved = 0xff000000000001fe;
inline constexpr uint64_t kBitmapTableAllOnes = 1;

struct BitmapEntry {
  HostOffset table;  // aligned; not checked against the file
  int64_t table_entries = 0;
  uint32_t flags = 0;
  int granularity_bits = 0;
};

// Reads the directory of `header.bitmaps`, which there is. InvalidArgument, one
// phrase, where QEMU would not read it.
Task<absl::StatusOr<std::vector<BitmapEntry>>> ReadBitmapDirectory(
    Child& file, const Header& header);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_BITMAP_DIRECTORY_H_
