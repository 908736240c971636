#include "drivers/qcow2/header.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/raw_header.h"

namespace bgfs::qcow2 {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kFileBytes = 1 << 20;

absl::StatusOr<Header> Parse(const RawHeader& raw,
                             int64_t file_bytes = kFileBytes) {
  return ParseHeader(raw.Serialize(), file_bytes);
}

std::string ErrorOf(const RawHeader& raw, int64_t file_bytes = kFileBytes) {
  absl::StatusOr<Header> header = Parse(raw, file_bytes);
  return header.ok() ? "no error" : std::string(header.status().message());
}

TEST(Header, Version3) {
  RawHeader raw;
  raw.refcount_order = 6;
  raw.incompatible = kIncompatibleDirty | kIncompatibleCorrupt;
  raw.compatible = kCompatibleLazyRefcounts | 0x80;
  raw.snapshots = 3;
  raw.snapshots_offset = 0x40000;
  absl::StatusOr<Header> header = Parse(raw);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->version, 3);
  EXPECT_EQ(header->geometry.cluster_bits(), 16);
  EXPECT_EQ(header->size_bytes, 1 << 20);
  EXPECT_EQ(header->l1_table, HostOffset(65536));
  EXPECT_EQ(header->l1_entries_needed, 1);
  EXPECT_EQ(header->refcount_order, 6);
  EXPECT_EQ(header->compatible_features, kCompatibleLazyRefcounts | 0x80);
  EXPECT_EQ(header->snapshot_count, 3u);
  EXPECT_EQ(header->snapshots_offset, 0x40000u);
  EXPECT_TRUE(header->dirty());
  EXPECT_TRUE(header->corrupt());
  EXPECT_TRUE(header->zero_flag());
  EXPECT_EQ(header->backing_name, "");
  EXPECT_FALSE(header->backing_format.has_value());
}

TEST(Header, Version2HasFixedValues) {
  RawHeader raw;
  raw.version = 2;
  raw.extensions = {{kExtensionBackingFormat, "raw"}};
  raw.backing_name = "base.img";
  absl::StatusOr<Header> header = Parse(raw);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->version, 2);
  EXPECT_EQ(header->refcount_order, 4);
  EXPECT_EQ(header->incompatible_features, 0u);
  EXPECT_FALSE(header->zero_flag());
  EXPECT_EQ(header->backing_name, "base.img");
  EXPECT_EQ(header->backing_format, "raw");
}

TEST(Header, EveryClusterAndRefcountSize) {
  for (uint32_t bits = 0; bits < 40; ++bits) {
    RawHeader raw;
    raw.cluster_bits = bits;
    raw.l1_offset = 2 << 20;
    raw.l1_size = 1 << 20;
    EXPECT_EQ(Parse(raw, 16 << 20).ok(), bits >= 9 && bits <= 21) << bits;
  }
  for (uint32_t order = 0; order < 9; ++order) {
    RawHeader raw;
    raw.refcount_order = order;
    EXPECT_EQ(Parse(raw).ok(), order <= 6) << order;
  }
}

TEST(Header, FirstClusterBytes) {
  RawHeader raw;
  raw.cluster_bits = 21;
  EXPECT_EQ(FirstClusterBytes(raw.Serialize(72)).value(), 2 << 20);
  EXPECT_FALSE(FirstClusterBytes(raw.Serialize(71)).ok());
  raw.cluster_bits = 22;
  EXPECT_FALSE(FirstClusterBytes(raw.Serialize(72)).ok());
  EXPECT_FALSE(HasMagic({}));
}

TEST(Header, UnknownPartsAreKept) {
  RawHeader raw;
  raw.header_length = 128;
  raw.more_fields = std::string(7, '\0') + "later fields";
  raw.extensions = {{0x12345678, "abc"},
                    {kExtensionBackingFormat, "qcow2"},
                    {0x12345678, "again, of an odd length"}};
  absl::StatusOr<Header> header = Parse(raw);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->unknown_fields,
            std::string(7, '\0') + "later fields" + std::string(4, '\0'));
  ASSERT_EQ(header->extensions.size(), 3u);
  EXPECT_EQ(header->extensions[0].type, 0x12345678u);
  EXPECT_EQ(header->extensions[0].data, "abc");
  EXPECT_EQ(header->extensions[2].data, "again, of an odd length");
}

TEST(Header, BitmapsCountOnlyIfMarkedConsistent) {
  RawHeader raw;
  std::vector<uint8_t> data;
  StoreBig(data, 0, 2, 4);
  StoreBig(data, 8, 96, 8);
  StoreBig(data, 16, 0x30000, 8);
  raw.extensions = {{kExtensionBitmaps, {data.begin(), data.end()}}};
  EXPECT_FALSE(Parse(raw)->bitmaps.has_value());
  raw.autoclear = kAutoclearBitmaps;
  absl::StatusOr<Header> header = Parse(raw);
  ASSERT_TRUE(header.ok() && header->bitmaps.has_value());
  EXPECT_EQ(header->bitmaps->count, 2u);
  EXPECT_EQ(header->bitmaps->directory_bytes, 96u);
  EXPECT_EQ(header->bitmaps->directory_offset, 0x30000u);
}

TEST(Header, CompressionTypeAndItsBitAgree) {
  RawHeader raw;
  EXPECT_EQ(Parse(raw)->compression, CompressionType::kDeflate);
  raw.compression_type = 1;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("bit 3 is clear"));
  raw.incompatible = kIncompatibleCompression;
  EXPECT_EQ(Parse(raw)->compression, CompressionType::kZstd);
  raw.compression_type = 0;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("bit 3 is set"));
  raw.compression_type = 2;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("compression type 2"));
  raw.compression_type = 0;
  raw.header_length = 104;  // the field is not there at all
  EXPECT_THAT(ErrorOf(raw), HasSubstr("bit 3 is set"));
}

TEST(Header, FeaturesAreRefusedByName) {
  RawHeader raw;
  raw.incompatible = kIncompatibleExtendedL2;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("extended L2 entries"));
  EXPECT_EQ(Parse(raw).status().code(), absl::StatusCode::kUnimplemented);
  raw.incompatible = kIncompatibleDataFile;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("external data file"));
  raw.incompatible = 0;
  raw.crypt_method = 1;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("AES encryption"));
  raw.crypt_method = 2;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("LUKS encryption"));
  raw.crypt_method = 9;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("encryption method 9"));
}

TEST(Header, UnknownBitsAreNamedByTheImage) {
  RawHeader raw;
  raw.incompatible = (uint64_t{1} << 40) | (uint64_t{1} << 63);
  std::string names(96, '\0');
  names[0] = 1;  // a compatible feature with the same bit
  names[1] = 40;
  names.replace(2, 5, "wrong");
  names[48] = 0;
  names[49] = 40;
  names.replace(50, 46, std::string(45, 'x') + "\n");
  raw.extensions = {{kExtensionFeatureNames, names}};
  const std::string error = ErrorOf(raw);
  EXPECT_THAT(error, HasSubstr(std::string(45, 'x') + "\\n\" (incompatible"));
  EXPECT_THAT(error, HasSubstr("incompatible feature bit 63"));
  EXPECT_THAT(error, Not(HasSubstr("wrong")));
  EXPECT_THAT(error, Not(HasSubstr("\n")));
}

TEST(Header, BackingNameIsBounded) {
  RawHeader raw;
  raw.backing_name = std::string(1023, 'a');
  EXPECT_EQ(Parse(raw)->backing_name, raw.backing_name);
  raw.backing_name += 'a';
  EXPECT_THAT(ErrorOf(raw), HasSubstr("1024 bytes, more than 1023"));
  raw.backing_name = "base";
  raw.backing_bytes = 0xffffffff;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("more than 1023"));
  raw.backing_bytes = 0;
  raw.backing_name = "";
  for (uint64_t at : {uint64_t{8}, uint64_t{65537}, ~uint64_t{0}}) {
    raw.backing_offset = at;
    raw.backing_bytes = 1;
    EXPECT_THAT(ErrorOf(raw), HasSubstr("outside the first cluster")) << at;
  }
  raw.backing_offset = 65536 - 4;
  raw.backing_bytes = 5;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("does not end in the first cluster"));
}

TEST(Header, L1IsBounded) {
  RawHeader raw;
  raw.cluster_bits = 9;
  raw.size = uint64_t{1} << 50;  // 1 PiB
  raw.l1_size = 1;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("512-byte clusters needs an L1 table"));
  raw = RawHeader();
  raw.l1_size = 0xffffffff;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("more than 32 MiB"));
  raw.l1_size = 0;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("but the disk needs 1"));
  raw = RawHeader();
  raw.l1_offset = 65536 + 512;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("not aligned"));
  raw.l1_offset = 0;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("no L1 table"));
  raw.l1_offset = kFileBytes;
  EXPECT_THAT(ErrorOf(raw), HasSubstr("past the end of the file"));
  raw.l1_offset = ~uint64_t{0xffff};
  EXPECT_THAT(ErrorOf(raw), HasSubstr("past the end of the file"));
  raw.l1_offset = uint64_t{0x7fffffffffff0000};
  EXPECT_THAT(ErrorOf(raw), HasSubstr("past the end of the file"));
  raw = RawHeader();
  EXPECT_THAT(ErrorOf(raw, 65536 + 7), HasSubstr("is the file complete?"));
  raw.size = ~uint64_t{0};
  EXPECT_THAT(ErrorOf(raw), HasSubstr("too large"));
  raw.size = 0;
  raw.l1_size = 0;
  raw.l1_offset = 0;
  EXPECT_EQ(ErrorOf(raw), "no error");
}

TEST(Header, ExtensionsAreBounded) {
  RawHeader raw;
  raw.extensions = {{kExtensionBackingFormat, "raw"},
                    {kExtensionBackingFormat, "raw"}};
  EXPECT_THAT(ErrorOf(raw), HasSubstr("0xe2792aca appears twice"));
  raw.extensions = {{0x77, "1234"}};
  std::vector<uint8_t> bytes = raw.Serialize();
  StoreBig(bytes, 112 + 4, 0xfffffff8, 4);
  EXPECT_THAT(ParseHeader(bytes, kFileBytes).status().message(),
              HasSubstr("0x00000077 of 4294967288 bytes does not fit"));
  for (uint32_t length : {0u, 96u, 105u, 65544u, 0xfffffff8u}) {
    bytes = RawHeader().Serialize();
    StoreBig(bytes, 100, length, 4);
    EXPECT_THAT(ParseHeader(bytes, kFileBytes).status().message(),
                HasSubstr("header_length"))
        << length;
  }
}

TEST(Header, TruncatedAnywhereIsAnErrorOrTheSame) {
  RawHeader raw;
  raw.extensions = {{kExtensionBackingFormat, "raw"}};
  raw.backing_name = "base.img";
  const std::vector<uint8_t> whole = raw.Serialize();
  const int64_t end = 112 + 16 + 8 + 8;
  for (int64_t bytes = 0; bytes <= end; ++bytes) {
    std::vector<uint8_t> cut(whole.begin(), whole.begin() + bytes);
    EXPECT_EQ(ParseHeader(cut, kFileBytes).ok(), bytes == end) << bytes;
  }
}

TEST(Header, GarbledBytesNeverCrash) {
  RawHeader raw;
  raw.cluster_bits = 12;
  raw.l1_offset = 4096;
  raw.extensions = {{kExtensionBackingFormat, "raw"},
                    {kExtensionFeatureNames, std::string(144, '\1')},
                    {kExtensionBitmaps, std::string(24, '\1')}};
  raw.backing_name = "base.img";
  const std::vector<uint8_t> good = raw.Serialize();
  std::mt19937_64 random(11);
  int parsed = 0;
  for (int i = 0; i < 100000; ++i) {
    std::vector<uint8_t> bytes = good;
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      bytes[4 + random() % 400] = static_cast<uint8_t>(random());
    }
    absl::StatusOr<Header> header = ParseHeader(bytes, kFileBytes);
    if (!header.ok()) continue;
    ++parsed;
    ASSERT_LE(header->l1_entries_needed * 8, kFileBytes);
    ASSERT_LE(header->backing_name.size(), 1023u);
  }
  EXPECT_GT(parsed, 0);
}

}  // namespace
}  // namespace bgfs::qcow2
