// The header of a qcow2 image, checked ("Header", "Additional fields",
// "Header extensions", "Feature name table", "Bitmaps extension").
//
// Everything in an image is untrusted. ParseHeader returns a Header only if
// each number that reading relies on is in range, aligned and inside the file,
// and if nothing in the image changes the meaning of the data in a way this
// version does not know. What reading need not look into (refcounts,
// snapshots, bitmaps) is handed on as it stands.
//
// What is unknown but harmless (trailing fields, extensions) is kept byte for
// byte and in order, since it must survive a rewrite of the header.

#ifndef BGFS_DRIVERS_QCOW2_HEADER_H_
#define BGFS_DRIVERS_QCOW2_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/types.h"

namespace bgfs::qcow2 {

struct HeaderExtension {
  uint32_t type = 0;
  std::string data;
};

// "Bitmaps extension". Not checked beyond its length.
struct BitmapsExtension {
  uint32_t count = 0;
  uint64_t directory_bytes = 0;
  uint64_t directory_offset = 0;
};

struct Header {
  int version = 3;
  Geometry geometry{16};
  int64_t size_bytes = 0;  // of the guest's disk
  CompressionType compression = CompressionType::kDeflate;
  uint32_t crypt_method = kCryptNone;

  // Empty if the image has no backing file. As it stands in the image:
  // relative names are relative to the image's folder, and it may be any of
  // the forms that QEMU writes (a path, `file:`, `json:`).
  std::string backing_name;
  absl::optional<std::string> backing_format;

  // At most kMaxL1Bytes long; the entries that the disk needs are inside the
  // file.
  HostOffset l1_table;
  int64_t l1_entries = 0;         // as stored, with those of saved VM states
  int64_t l1_entries_needed = 0;  // those that describe the disk

  uint64_t incompatible_features = 0;
  uint64_t compatible_features = 0;
  uint64_t autoclear_features = 0;

  // Unchecked.
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  uint64_t snapshots_offset = 0;

  int refcount_order = kVersion2RefcountOrder;
  // Present if the image has one that is marked as consistent.
  absl::optional<BitmapsExtension> bitmaps;

  // The bytes of the header after compression_type (padding, and what later
  // versions put there), and all extensions except the end marker.
  std::string unknown_fields;
  std::vector<HeaderExtension> extensions;

  bool dirty() const {
    return (incompatible_features & kIncompatibleDirty) != 0;
  }
  bool corrupt() const {
    return (incompatible_features & kIncompatibleCorrupt) != 0;
  }
  bool data_file() const {
    return (incompatible_features & kIncompatibleDataFile) != 0;
  }
  bool extended_l2() const {
    return (incompatible_features & kIncompatibleExtendedL2) != 0;
  }
  // Whether bit 0 of an L2 entry marks a zero cluster.
  bool zero_flag() const { return version >= 3; }
};

// Whether a file that starts with these bytes says that it is qcow2.
bool HasMagic(absl::Span<const uint8_t> start);

// How many bytes ParseHeader wants to see, given at least the first
// kVersion2HeaderBytes of the file (less only if the file is shorter): one
// cluster, at most 2 MiB. InvalidArgument if this is not a qcow2 image or its
// version or cluster size is not one there is.
absl::StatusOr<int64_t> FirstClusterBytes(absl::Span<const uint8_t> start);

// Parses and checks the header. `start` is the first cluster, cut off at the
// end of the file, which is `file_bytes` long. InvalidArgument: malformed;
// Unimplemented: uses a feature that this version refuses, by name. Messages
// are one phrase, without the name of the file.
absl::StatusOr<Header> ParseHeader(absl::Span<const uint8_t> start,
                                   int64_t file_bytes);

// The same for a check, which looks at tables and not at guest data: it takes
// every feature that there is (encryption, an external data file, extended L2
// entries), and tables that lie outside the file.
absl::StatusOr<Header> ParseHeaderForCheck(absl::Span<const uint8_t> start);

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_HEADER_H_
