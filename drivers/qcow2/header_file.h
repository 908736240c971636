// HeaderFile: the header of an open, writable image, where it lies in the file.
//
// A field changes by one write inside the first 512 bytes, which a disk writes
// whole or not at all. The order of things (what must be durable before, what
// may be freed after) is the caller's. A write that failed may have happened
// all the same, or a part of it: what the file says is then unsettled, until
// the fields were written again as they are known to be.
//
// It also keeps whether the image may be written at all: once damage is met
// that a write could make worse, the corrupt bit is set ("Header",
// incompatible_features bit 1) and nothing is written any more. Version 2 has
// no such bit, and after a failed flush the file is no evidence of damage;
// there it holds for this open.

#ifndef BGFS_DRIVERS_QCOW2_HEADER_FILE_H_
#define BGFS_DRIVERS_QCOW2_HEADER_FILE_H_

#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/types.h"
#include "graph/async/sync.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// Owned by the driver of the image, used at its home only.
class HeaderFile {
 public:
  using Report = absl::AnyInvocable<void(absl::string_view)>;

  // `file` outlives this. `report` is told, in one line, of damage.
  HeaderFile(const Header& header, Child* file, Report report);

  // Errors: what writing met.
  Task<IoStatus> SetDiskSize(int64_t size_bytes);
  Task<IoStatus> SetL1(HostOffset l1_table, int64_t l1_entries);
  Task<IoStatus> SetRefcountTable(HostOffset table, int64_t clusters);

  // Whether a failed write has to be made good, before anything may be taken
  // for durable or be freed. Settle() does that.
  bool unsettled() const { return unsettled_; }
  Task<IoStatus> Settle();

  // Before the first write to the image: clears, durably, the autoclear bits
  // that this version does not keep right ("Header", autoclear_features).
  Task<IoStatus> PrepareToWrite();

  // False once the image must not be written any more.
  bool sound() const { return !corrupt_; }
  // `damage` completes "the image is damaged: ...". Gives EIO.
  Task<IoStatus> MarkCorrupt(std::string damage);

 private:
  // What the header says of the disk and of the refcounts: bytes 24 to 59, with
  // crypt_method between them, which is 0.
  struct Fields {
    int64_t disk_size = 0;
    HostOffset l1_table;
    int64_t l1_entries = 0;
    HostOffset refcount_table;
    int64_t refcount_clusters = 0;
  };

  Task<IoStatus> WriteAt(int64_t offset, absl::Span<const uint8_t> bytes);
  // Writes all of `fields`, which are known from then on; under the mutex, from
  // before they are copied.
  Task<IoStatus> Write(Fields fields);

  const int version_;
  Child* const file_;
  Report report_;
  uint64_t incompatible_;
  uint64_t autoclear_;
  Mutex mutex_;  // one change of the fields at a time
  Fields fields_;
  bool unsettled_ = false;
  bool corrupt_ = false;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_HEADER_FILE_H_
