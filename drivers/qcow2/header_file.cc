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
      l1_table_(header.l1_table),
      l1_entries_(header.l1_entries) {}

Task<IoStatus> HeaderFile::WriteAt(int64_t offset,
                                   absl::Span<const uint8_t> bytes) {
  co_return co_await file_->Write(
      nullptr, offset,
      IoView(bytes.data(), static_cast<int64_t>(bytes.size())));
}

Task<IoStatus> HeaderFile::SetDiskSize(int64_t size_bytes) {
  std::array<uint8_t, 8> field;
  StoreBig64(field.data(), static_cast<uint64_t>(size_bytes));
  co_return co_await WriteAt(kSizeAt, field);
}

// The fields stand together, with crypt_method between them, which is 0.
Task<IoStatus> HeaderFile::SetDisk(int64_t size_bytes, HostOffset l1_table,
                                   int64_t l1_entries) {
  std::array<uint8_t, kL1TableAt + 8 - kSizeAt> fields{};
  StoreBig64(&fields[0], static_cast<uint64_t>(size_bytes));
  StoreBig32(&fields[kL1SizeAt - kSizeAt], static_cast<uint32_t>(l1_entries));
  StoreBig64(&fields[kL1TableAt - kSizeAt],
             static_cast<uint64_t>(l1_table.value()));
  BGFS_CO_TRY(co_await WriteAt(kSizeAt, fields));
  l1_table_ = l1_table;
  l1_entries_ = l1_entries;
  co_return IoStatus();
}

Task<IoStatus> HeaderFile::SetRefcountTable(HostOffset table,
                                            int64_t clusters) {
  std::array<uint8_t, kRefcountTableClustersAt + 4 - kRefcountTableAt> fields;
  StoreBig64(&fields[0], static_cast<uint64_t>(table.value()));
  StoreBig32(&fields[kRefcountTableClustersAt - kRefcountTableAt],
             static_cast<uint32_t>(clusters));
  co_return co_await WriteAt(kRefcountTableAt, fields);
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
  incompatible_ |= kIncompatibleCorrupt;
  std::array<uint8_t, 8> field;
  StoreBig64(field.data(), incompatible_);
  // What cannot be told to the disk holds at least for this open.
  (co_await WriteAt(kIncompatibleAt, field)).Ignore();
  (co_await file_->Flush()).Ignore();
  co_return IoError(EIO);
}

}  // namespace bgfs::qcow2
