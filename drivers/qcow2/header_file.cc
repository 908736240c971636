#include "drivers/qcow2/header_file.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {

HeaderFile::HeaderFile(const Header& header, Child* file, Report report)
    : version_(header.version),
      file_(file),
      report_(std::move(report)),
      incompatible_(header.incompatible_features),
      autoclear_(header.autoclear_features),
      fields_{header.size_bytes, header.l1_table, header.l1_entries,
              HostOffset(static_cast<int64_t>(header.refcount_table_offset)),
              header.refcount_table_clusters} {}

Task<IoStatus> HeaderFile::WriteAt(int64_t offset,
                                   absl::Span<const uint8_t> bytes) {
  co_return co_await file_->Write(
      nullptr, offset,
      IoView(bytes.data(), static_cast<int64_t>(bytes.size())));
}

Task<IoStatus> HeaderFile::Write(Fields fields) {
  std::array<uint8_t, kRefcountTableClustersAt + 4 - kSizeAt> bytes{};
  const auto at = [&bytes](int64_t offset) { return &bytes[offset - kSizeAt]; };
  StoreBig64(at(kSizeAt), static_cast<uint64_t>(fields.disk_size));
  StoreBig32(at(kL1SizeAt), static_cast<uint32_t>(fields.l1_entries));
  StoreBig64(at(kL1TableAt), static_cast<uint64_t>(fields.l1_table.value()));
  StoreBig64(at(kRefcountTableAt),
             static_cast<uint64_t>(fields.refcount_table.value()));
  StoreBig32(at(kRefcountTableClustersAt),
             static_cast<uint32_t>(fields.refcount_clusters));
  const IoStatus status = co_await WriteAt(kSizeAt, bytes);
  unsettled_ = !status.ok();
  if (status.ok()) fields_ = fields;
  co_return status;
}

Task<IoStatus> HeaderFile::Settle() {
  if (!unsettled_) co_return IoStatus();
  const Mutex::Guard guard = co_await mutex_.Lock();
  if (!unsettled_) co_return IoStatus();
  co_return co_await Write(fields_);
}

Task<IoStatus> HeaderFile::SetDiskSize(int64_t size_bytes) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  Fields fields = fields_;
  fields.disk_size = size_bytes;
  co_return co_await Write(fields);
}

Task<IoStatus> HeaderFile::SetL1(HostOffset l1_table, int64_t l1_entries) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  Fields fields = fields_;
  fields.l1_table = l1_table;
  fields.l1_entries = l1_entries;
  co_return co_await Write(fields);
}

Task<IoStatus> HeaderFile::SetRefcountTable(HostOffset table,
                                            int64_t clusters) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  Fields fields = fields_;
  fields.refcount_table = table;
  fields.refcount_clusters = clusters;
  co_return co_await Write(fields);
}

Task<IoStatus> HeaderFile::PrepareToWrite() {
  if (autoclear_ == 0 || version_ < 3) co_return IoStatus();
  std::array<uint8_t, 8> field{};
  BGFS_CO_TRY(co_await WriteAt(kAutoclearAt, field));
  BGFS_CO_TRY(co_await file_->Flush());
  autoclear_ = 0;
  co_return IoStatus();
}

Task<IoStatus> HeaderFile::MarkCorrupt(std::string damage) {
  if (corrupt_) co_return IoError(EIO);
  corrupt_ = true;
  if (report_) {
    report_(absl::StrCat("the image is damaged: ", damage,
                         "; it can only be read now, repair it with bgfs check "
                         "--repair=all"));
  }
  if (version_ < 3) co_return IoError(EIO);
  // A failed flush may have lost what was written. What looks like damage from
  // here may be that, and the disk may be sound.
  if (!(co_await file_->Flush()).ok()) co_return IoError(EIO);
  incompatible_ |= kIncompatibleCorrupt;
  std::array<uint8_t, 8> field;
  StoreBig64(field.data(), incompatible_);
  // What cannot be told to the disk holds at least for this open.
  (co_await WriteAt(kIncompatibleAt, field)).Ignore();
  (co_await file_->Flush()).Ignore();
  co_return IoError(EIO);
}

}  // namespace bgfs::qcow2
