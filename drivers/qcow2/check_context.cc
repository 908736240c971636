#include "drivers/qcow2/check_context.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "drivers/qcow2/byte_scan.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/qcow2.h"

namespace bgfs::qcow2 {
namespace {

// After so much, the file is asked for holes first.
constexpr int64_t kReadBeforeAsking = int64_t{1} << 30;
// How much longer than it is a file may once have been: times its length, or
// bytes.
constexpr uint64_t kMostLost = 16;
constexpr uint64_t kMinLostBytes = uint64_t{1} << 30;
constexpr int kMinExtendedL2ClusterBits = 14;
// QEMU's limits ("Bitmaps extension").
constexpr uint32_t kMaxBitmaps = 65535;
constexpr uint64_t kMaxBitmapDirectoryBytes = uint64_t{kMaxBitmaps} * 1024;

absl::Span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

template <typename... Parts>
absl::Status Malformed(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

Task<absl::StatusOr<Header>> ReadHeaderForCheck(Child& file) {
  std::vector<uint8_t> start(static_cast<size_t>(
      std::min<int64_t>(file.size(), kVersion3HeaderBytes)));
  for (int round = 0; round < 2 && !start.empty(); ++round) {
    const auto bytes = static_cast<int64_t>(start.size());
    const IoStatus read =
        co_await file.Read(nullptr, 0, IoView(start.data(), bytes));
    if (!read.ok()) co_return read.ToStatus("reading the header");
    if (round == 1) break;
    const absl::StatusOr<int64_t> wanted = FirstClusterBytes(start);
    if (!wanted.ok()) co_return wanted.status();
    start.resize(static_cast<size_t>(std::min(file.size(), *wanted)));
  }
  if (!HasMagic(start)) co_return Malformed("not a qcow2 image");
  co_return ParseHeaderForCheck(start);
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<CheckContext>>> CheckContext::Open(
    Child& file, CheckProgress* progress) {
  absl::StatusOr<Header> header = co_await ReadHeaderForCheck(file);
  if (!header.ok()) co_return header.status();
  std::unique_ptr<CheckContext> context(
      new CheckContext(file, *std::move(header), progress));
  if (auto s = context->CheckLayout(); !s.ok()) co_return s;
  if (auto s = context->FindCryptHeader(); !s.ok()) co_return s;
  if (auto s = context->CheckBitmapsExtension(); !s.ok()) co_return s;
  co_return context;
}

absl::Status CheckContext::CheckLayout() {
  if (header_.extended_l2() &&
      geometry().cluster_bits() < kMinExtendedL2ClusterBits) {
    return Malformed("clusters of ", cluster_size(),
                     " bytes are too small for extended L2 entries");
  }
  const int64_t table_bytes = int64_t{header_.refcount_table_clusters}
                              << geometry().cluster_bits();
  if (table_bytes > kMaxRefcountTableBytes) {
    return Malformed("the refcount table has ", table_bytes,
                     " bytes, more than ", kMaxRefcountTableBytes);
  }
  const uint64_t at = header_.refcount_table_offset;
  if (at % static_cast<uint64_t>(cluster_size()) != 0 ||
      at > static_cast<uint64_t>(std::numeric_limits<int64_t>::max() -
                                 table_bytes)) {
    return Malformed("the refcount table at ", at,
                     " is not aligned to a cluster of the file");
  }
  return absl::OkStatus();
}

absl::Status CheckContext::FindCryptHeader() {
  for (const HeaderExtension& extension : header_.extensions) {
    if (extension.type != kExtensionCryptHeader) continue;
    if (extension.data.size() != 2 * sizeof(uint64_t)) {
      return Malformed("the encryption header's extension has ",
                       extension.data.size(), " bytes, not 16");
    }
    crypt.offset = LoadBig64(BytesOf(extension.data).data());
    crypt.bytes = LoadBig64(BytesOf(extension.data).data() + 8);
    if (crypt.offset % static_cast<uint64_t>(cluster_size()) != 0) {
      return Malformed("the encryption header at ", crypt.offset,
                       " is not aligned to a cluster");
    }
    return absl::OkStatus();
  }
  if (header_.crypt_method == kCryptLuks) {
    return Malformed("the image is encrypted, but has no encryption header");
  }
  return absl::OkStatus();
}

absl::Status CheckContext::CheckBitmapsExtension() const {
  if ((header_.autoclear_features & kAutoclearBitmaps) == 0) {
    return absl::OkStatus();
  }
  for (const HeaderExtension& extension : header_.extensions) {
    if (extension.type == kExtensionBitmaps && !header_.bitmaps.has_value()) {
      return Malformed("the bitmaps extension has ", extension.data.size(),
                       " bytes, not ", kBitmapsExtensionBytes);
    }
    if (extension.type != kExtensionBitmaps) continue;
    const BitmapsExtension& bitmaps = *header_.bitmaps;
    if (bitmaps.count == 0 || bitmaps.count > kMaxBitmaps ||
        LoadBig32(BytesOf(extension.data).data() + 4) != 0) {
      return Malformed("the bitmaps extension is damaged: ", bitmaps.count,
                       " bitmaps, or reserved bytes that are not 0");
    }
    if (bitmaps.directory_offset % static_cast<uint64_t>(cluster_size()) != 0 ||
        bitmaps.directory_bytes > kMaxBitmapDirectoryBytes) {
      return Malformed("the bitmap directory of ", bitmaps.directory_bytes,
                       " bytes at ", bitmaps.directory_offset,
                       " is too large or not aligned to a cluster");
    }
  }
  return absl::OkStatus();
}

int64_t CheckContext::file_clusters() const {
  const int64_t size = file_.size();
  return (size >> geometry().cluster_bits()) +
         ((size & (cluster_size() - 1)) != 0 ? 1 : 0);
}

bool CheckContext::LeavesFile(uint64_t at, uint64_t bytes) const {
  const auto limit = static_cast<uint64_t>(file_.size()) +
                     static_cast<uint64_t>(cluster_size());
  return bytes >= limit || at > limit - bytes - 1;
}

bool CheckContext::WillHave(uint64_t at, uint64_t bytes) const {
  const uint64_t limit =
      std::max(static_cast<uint64_t>(file_.size()) * kMostLost, kMinLostBytes);
  return lengthens && bytes < limit && at <= limit - bytes;
}

Task<IoResult<bool>> CheckContext::ReadBytes(HostOffset at, IoView data) {
  bytes_read_ += data.size();
  if (bytes_read_ > kReadBeforeAsking &&
      (at < hole_start_ || at + data.size() > hole_end_) &&
      at.value() < file_.size()) {
    const IoResult<BlockStatus> status =
        co_await file_.Status(nullptr, at.value(), file_.size() - at.value(),
                              /*precise=*/true);
    if (status.ok() && (status->flags & BlockStatus::kZero) != 0) {
      hole_start_ = at;
      hole_end_ = at + status->bytes;
    }
  }
  if (at >= hole_start_ && at + data.size() <= hole_end_) co_return false;
  BGFS_CO_TRY(co_await ReadOrZeros(file_, at, data));
  co_return true;
}

Task<IoResult<bool>> CheckContext::ReadWords(HostOffset at,
                                             absl::Span<uint64_t> words) {
  const IoView data(words.data(),
                    static_cast<int64_t>(words.size() * sizeof(uint64_t)));
  const IoResult<bool> read = co_await ReadBytes(at, data);
  if (!read.ok() || !*read) co_return read;
  for (uint64_t& word : words) word = FromBig64(word);
  co_return true;
}

Task<IoStatus> CheckContext::WriteWords(HostOffset at,
                                        absl::Span<const uint64_t> words) {
  std::vector<uint64_t> big(words.size());
  std::transform(words.begin(), words.end(), big.begin(), FromBig64);
  co_return co_await file_.Write(
      nullptr, at.value(),
      IoView(big.data(), static_cast<int64_t>(big.size() * sizeof(uint64_t))));
}

absl::Status CheckContext::OutOfMemory() const {
  return absl::ResourceExhaustedError(absl::StrCat(
      "checking so many clusters (of ", cluster_size(),
      " bytes) takes more than 256 MiB of memory; copy the image to one with"
      " larger clusters"));
}

}  // namespace bgfs::qcow2
