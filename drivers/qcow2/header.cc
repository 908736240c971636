#include "drivers/qcow2/header.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace bgfs::qcow2 {
namespace {

template <typename... Parts>
absl::Status Malformed(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// QEMU reads names as C strings: what follows a NUL is no part of them.
std::string UpToNul(absl::Span<const uint8_t> bytes) {
  auto end = std::find(bytes.begin(), bytes.end(), uint8_t{0});
  return std::string(bytes.begin(), end);
}

std::string ToString(absl::Span<const uint8_t> bytes) {
  return std::string(bytes.begin(), bytes.end());
}

absl::Status CheckVersionAndClusterSize(absl::Span<const uint8_t> start) {
  if (!HasMagic(start)) return Malformed("not a qcow2 image");
  if (start.size() < kVersion2HeaderBytes) {
    return Malformed("the file ends within the qcow2 header");
  }
  const uint32_t version = LoadBig32(&start[4]);
  if (version != 2 && version != 3) {
    return Malformed("qcow2 version ", version,
                     " is not supported (only 2 and 3 are)");
  }
  const uint32_t cluster_bits = LoadBig32(&start[20]);
  if (cluster_bits < kMinClusterBits || cluster_bits > kMaxClusterBits) {
    return Malformed("cluster_bits is ", cluster_bits, ", not ",
                     kMinClusterBits, " to ", kMaxClusterBits);
  }
  return absl::OkStatus();
}

// Fills a Header from the first cluster, one concern a function.
class Parser {
 public:
  Parser(absl::Span<const uint8_t> start, int64_t file_bytes,
         bool for_check = false)
      : start_(start), file_bytes_(file_bytes), for_check_(for_check) {}

  absl::StatusOr<Header> Parse();

 private:
  absl::Status ParseFixedFields();
  absl::Status ParseVersion3Fields();
  absl::Status ParseExtensions();
  absl::Status ParseExtension(uint32_t type, absl::Span<const uint8_t> data);
  absl::Status ParseBackingName();
  absl::Status CheckFeatures() const;
  absl::Status CheckCompression();
  absl::Status CheckL1();
  absl::Status CheckL1InFile() const;
  std::string NameOfIncompatibleBit(int bit) const;
  bool HasExtension(uint32_t type) const;
  int64_t cluster_size() const { return header_.geometry.cluster_size(); }

  const absl::Span<const uint8_t> start_;
  const int64_t file_bytes_;
  const bool for_check_;
  Header header_;
  int64_t header_bytes_ = kVersion2HeaderBytes;
  uint64_t backing_offset_ = 0;
  uint32_t backing_bytes_ = 0;
  uint8_t compression_type_ = 0;
  absl::Span<const uint8_t> feature_names_;
};

absl::StatusOr<Header> Parser::Parse() {
  if (auto s = CheckVersionAndClusterSize(start_); !s.ok()) return s;
  header_.version = static_cast<int>(LoadBig32(&start_[4]));
  header_.geometry = Geometry(static_cast<int>(LoadBig32(&start_[20])));
  if (auto s = ParseFixedFields(); !s.ok()) return s;
  if (header_.version >= 3) {
    if (auto s = ParseVersion3Fields(); !s.ok()) return s;
  }
  if (auto s = ParseExtensions(); !s.ok()) return s;
  // Before anything that an unknown feature might have redefined.
  if (auto s = CheckFeatures(); !s.ok()) return s;
  if (auto s = CheckCompression(); !s.ok()) return s;
  if (auto s = ParseBackingName(); !s.ok()) return s;
  if (auto s = CheckL1(); !s.ok()) return s;
  return std::move(header_);
}

absl::Status Parser::ParseFixedFields() {
  backing_offset_ = LoadBig64(&start_[8]);
  backing_bytes_ = LoadBig32(&start_[16]);
  header_.crypt_method = LoadBig32(&start_[32]);
  header_.l1_entries = LoadBig32(&start_[36]);
  header_.refcount_table_offset = LoadBig64(&start_[48]);
  header_.refcount_table_clusters = LoadBig32(&start_[56]);
  header_.snapshot_count = LoadBig32(&start_[60]);
  header_.snapshots_offset = LoadBig64(&start_[64]);

  const uint64_t size = LoadBig64(&start_[24]);
  if (size > std::numeric_limits<int64_t>::max()) {
    return Malformed("a disk of ", size, " bytes is too large");
  }
  header_.size_bytes = static_cast<int64_t>(size);
  const uint64_t l1_offset = LoadBig64(&start_[40]);
  if (l1_offset > std::numeric_limits<int64_t>::max()) {
    return Malformed("the L1 table lies past the end of the file");
  }
  header_.l1_table = HostOffset(static_cast<int64_t>(l1_offset));
  return absl::OkStatus();
}

absl::Status Parser::ParseVersion3Fields() {
  const auto available = static_cast<int64_t>(start_.size());
  if (available < kVersion3HeaderBytes) {
    return Malformed("the file ends within the qcow2 header");
  }
  header_.incompatible_features = LoadBig64(&start_[72]);
  header_.compatible_features = LoadBig64(&start_[80]);
  header_.autoclear_features = LoadBig64(&start_[88]);
  const uint32_t refcount_order = LoadBig32(&start_[96]);
  if (refcount_order > kMaxRefcountOrder) {
    return Malformed("refcount_order is ", refcount_order, ", more than ",
                     kMaxRefcountOrder);
  }
  header_.refcount_order = static_cast<int>(refcount_order);
  header_bytes_ = LoadBig32(&start_[100]);
  if (header_bytes_ < kVersion3HeaderBytes || header_bytes_ % 8 != 0 ||
      header_bytes_ > available) {
    return Malformed("header_length is ", header_bytes_,
                     ", not a multiple of 8 from ", kVersion3HeaderBytes,
                     " to ", available);
  }
  if (header_bytes_ > kVersion3HeaderBytes) {
    constexpr int64_t kAt = kCompressionTypeAt;
    compression_type_ = start_[kAt];
    header_.unknown_fields =
        ToString(start_.subspan(kAt + 1, header_bytes_ - kAt - 1));
  }
  return absl::OkStatus();
}

absl::Status Parser::ParseExtensions() {
  auto end = static_cast<int64_t>(start_.size());
  if (backing_offset_ != 0) {
    if (backing_offset_ < static_cast<uint64_t>(header_bytes_) ||
        backing_offset_ > start_.size()) {
      return Malformed("the backing file name lies outside the first cluster");
    }
    end = static_cast<int64_t>(backing_offset_);
  }
  int64_t at = header_bytes_;
  while (end - at >= kExtensionHeadBytes) {
    const uint32_t type = LoadBig32(&start_[at]);
    const int64_t bytes = LoadBig32(&start_[at + 4]);
    if (type == kExtensionEnd) break;
    at += kExtensionHeadBytes;
    if (bytes > end - at) {
      return Malformed("header extension 0x", absl::Hex(type, absl::kZeroPad8),
                       " of ", bytes, " bytes does not fit");
    }
    if (auto s = ParseExtension(type, start_.subspan(at, bytes)); !s.ok()) {
      return s;
    }
    // The padding of the last one may be missing.
    at = std::min(end, at + (bytes + 7) / 8 * 8);
  }
  return absl::OkStatus();
}

bool Parser::HasExtension(uint32_t type) const {
  return std::any_of(header_.extensions.begin(), header_.extensions.end(),
                     [&](const auto& e) { return e.type == type; });
}

absl::Status Parser::ParseExtension(uint32_t type,
                                    absl::Span<const uint8_t> data) {
  switch (type) {
    case kExtensionBackingFormat:
    case kExtensionFeatureNames:
    case kExtensionBitmaps:
    case kExtensionCryptHeader:
    case kExtensionDataFile:
      if (HasExtension(type)) {
        return Malformed("header extension 0x",
                         absl::Hex(type, absl::kZeroPad8), " appears twice");
      }
      break;
    default:
      break;
  }
  if (type == kExtensionBackingFormat) {
    header_.backing_format = UpToNul(data);
  } else if (type == kExtensionFeatureNames) {
    feature_names_ = data;
  } else if (type == kExtensionBitmaps &&
             data.size() == kBitmapsExtensionBytes &&
             (header_.autoclear_features & kAutoclearBitmaps) != 0) {
    header_.bitmaps = BitmapsExtension{LoadBig32(&data[0]), LoadBig64(&data[8]),
                                       LoadBig64(&data[16])};
  }
  header_.extensions.push_back({type, ToString(data)});
  return absl::OkStatus();
}

absl::Status Parser::ParseBackingName() {
  if (backing_offset_ == 0) return absl::OkStatus();
  if (backing_bytes_ > kMaxBackingNameBytes) {
    return Malformed("the backing file name has ", backing_bytes_,
                     " bytes, more than ", kMaxBackingNameBytes);
  }
  if (backing_bytes_ > start_.size() - backing_offset_) {
    return Malformed("the backing file name does not end in the first cluster");
  }
  header_.backing_name =
      UpToNul(start_.subspan(backing_offset_, backing_bytes_));
  return absl::OkStatus();
}

// The name that the image itself gives to an unknown bit, if it does.
std::string Parser::NameOfIncompatibleBit(int bit) const {
  constexpr uint8_t kIncompatible = 0;
  for (auto rest = feature_names_; rest.size() >= kFeatureNameEntryBytes;
       rest.remove_prefix(kFeatureNameEntryBytes)) {
    if (rest[0] == kIncompatible && rest[1] == bit) {
      return absl::StrCat("\"",
                          absl::CHexEscape(UpToNul(
                              rest.subspan(2, kFeatureNameEntryBytes - 2))),
                          "\" (incompatible feature bit ", bit, ")");
    }
  }
  return absl::StrCat("incompatible feature bit ", bit);
}

absl::Status Parser::CheckFeatures() const {
  constexpr uint64_t kKnown = kIncompatibleDirty | kIncompatibleCorrupt |
                              kIncompatibleDataFile | kIncompatibleCompression |
                              kIncompatibleExtendedL2;
  const uint64_t bits = header_.incompatible_features;
  std::vector<std::string> refused;
  for (int bit = 0; bit < 64; ++bit) {
    if ((bits & ~kKnown & (uint64_t{1} << bit)) != 0) {
      refused.push_back(NameOfIncompatibleBit(bit));
    }
  }
  if (header_.data_file() && !for_check_) {
    refused.push_back("an external data file");
  }
  if (header_.extended_l2() && !for_check_) {
    refused.push_back("extended L2 entries");
  }
  if (header_.crypt_method == kCryptAes) {
    if (!for_check_) refused.push_back("AES encryption");
  } else if (header_.crypt_method == kCryptLuks) {
    if (!for_check_) refused.push_back("LUKS encryption");
  } else if (header_.crypt_method != kCryptNone) {
    refused.push_back(absl::StrCat("encryption method ", header_.crypt_method));
  }
  if (refused.empty()) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("the image uses ", absl::StrJoin(refused, " and "),
                   ", which this version cannot read"));
}

absl::Status Parser::CheckCompression() {
  const bool flagged =
      (header_.incompatible_features & kIncompatibleCompression) != 0;
  if (flagged != (compression_type_ != 0)) {
    return Malformed("compression_type is ", compression_type_,
                     ", but incompatible feature bit 3 is ",
                     flagged ? "set" : "clear");
  }
  if (compression_type_ > static_cast<uint8_t>(CompressionType::kZstd)) {
    return absl::UnimplementedError(
        absl::StrCat("the image uses compression type ", compression_type_,
                     ", which this version cannot read"));
  }
  header_.compression = static_cast<CompressionType>(compression_type_);
  return absl::OkStatus();
}

absl::Status Parser::CheckL1() {
  header_.l1_entries_needed = header_.geometry.L1EntriesFor(header_.size_bytes);
  if (header_.extended_l2()) {
    // A table has half as many entries, so an image needs twice the tables.
    const int64_t bytes = header_.geometry.bytes_per_l2_table() / 2;
    header_.l1_entries_needed =
        header_.size_bytes / bytes + (header_.size_bytes % bytes != 0 ? 1 : 0);
  }
  const int64_t needed = header_.l1_entries_needed;
  constexpr int64_t kMaxEntries = kMaxL1Bytes / int64_t{sizeof(uint64_t)};
  if (needed > kMaxEntries) {
    return Malformed("a disk of ", header_.size_bytes, " bytes with ",
                     cluster_size(), "-byte clusters needs an L1 table of more",
                     " than 32 MiB; use larger clusters");
  }
  if (header_.l1_entries > kMaxEntries) {
    return Malformed("the L1 table has ", header_.l1_entries,
                     " entries, more than 32 MiB");
  }
  if (header_.l1_entries < needed) {
    return Malformed("the L1 table has ", header_.l1_entries,
                     " entries, but the disk needs ", needed);
  }
  if (!header_.geometry.IsClusterStart(header_.l1_table)) {
    return Malformed("the L1 table at ", header_.l1_table.value(),
                     " is not aligned to a cluster");
  }
  return for_check_ ? absl::OkStatus() : CheckL1InFile();
}

absl::Status Parser::CheckL1InFile() const {
  const int64_t needed = header_.l1_entries_needed;
  const int64_t l1_bytes = needed * int64_t{sizeof(uint64_t)};
  if (needed > 0 && (header_.l1_table.value() > file_bytes_ ||
                     l1_bytes > file_bytes_ - header_.l1_table.value())) {
    return Malformed("the L1 table at ", header_.l1_table.value(),
                     " ends past the end of the file (", file_bytes_,
                     " bytes); is the file complete?");
  }
  if (needed > 0 && header_.l1_table.value() == 0) {
    return Malformed("there is no L1 table");
  }
  return absl::OkStatus();
}

}  // namespace

bool HasMagic(absl::Span<const uint8_t> start) {
  return start.size() >= 4 && LoadBig32(start.data()) == kMagic;
}

absl::StatusOr<int64_t> FirstClusterBytes(absl::Span<const uint8_t> start) {
  if (auto s = CheckVersionAndClusterSize(start); !s.ok()) return s;
  return int64_t{1} << LoadBig32(&start[20]);
}

absl::StatusOr<Header> ParseHeader(absl::Span<const uint8_t> start,
                                   int64_t file_bytes) {
  return Parser(start, file_bytes).Parse();
}

absl::StatusOr<Header> ParseHeaderForCheck(absl::Span<const uint8_t> start) {
  return Parser(start, /*file_bytes=*/0, /*for_check=*/true).Parse();
}

}  // namespace bgfs::qcow2
