// Files that are great holes with a little garbage in them, made to take all
// the memory or all the time there is.

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "drivers/qcow2/check.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/check_file.h"
#include "tests/drivers/qcow2/raw_header.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

constexpr uint64_t kTiB = uint64_t{1} << 40;

// Sanitizers keep memory of their own.
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitised = true;
#else
constexpr bool kSanitised = false;
#endif

int64_t MaxResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// A sparse file; false where the file system has none so large.
bool MakeSparse(const std::string& path, uint64_t bytes,
                const std::vector<uint8_t>& start) {
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  const bool made = fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0 &&
                    write(fd, start.data(), start.size()) ==
                        static_cast<ssize_t>(start.size());
  close(fd);
  return made;
}

// Each entry of the L2 tables leads to another 512 KiB of the file.
TEST(CheckMemory, OfScatteredReferencesIsBounded) {
  constexpr uint64_t kCluster = 512;
  constexpr uint64_t kTables = 4096;
  RawHeader header;
  header.cluster_bits = 9;
  header.size = kTables * 64 * kCluster;
  header.l1_offset = kCluster;
  header.l1_size = kTables;
  header.refcount_table_offset = kCluster * (1 + kTables * 8 / kCluster);
  std::vector<uint8_t> start = header.Serialize();
  const uint64_t first = header.refcount_table_offset + kCluster;
  start.resize(first + kTables * kCluster);
  for (uint64_t i = 0; i < kTables; ++i) {
    StoreBig64(&start[kCluster + i * 8], first + i * kCluster);
    for (uint64_t j = 0; j < 64; ++j) {
      StoreBig64(&start[first + i * kCluster + j * 8], (i * 64 + j + 16) << 19);
    }
  }
  const TempFolder folder;
  if (!MakeSparse(folder / "a", kTiB, start)) GTEST_SKIP() << "no sparse files";
  const auto report = CheckFile(folder / "a");
  EXPECT_EQ(report.status().code(), absl::StatusCode::kResourceExhausted)
      << report.status();
  if (!kSanitised) EXPECT_LT(MaxResidentBytes(), int64_t{256} << 20);
}

// A million L2 tables, all of them holes: 2 TiB.
TEST(CheckMemory, HolesTakeNoTime) {
  constexpr uint64_t kCluster = uint64_t{2} << 20;
  constexpr uint64_t kTables = uint64_t{1} << 20;
  RawHeader header;
  header.cluster_bits = 21;
  header.size = kCluster;
  header.l1_offset = kCluster;
  header.l1_size = kTables;
  header.refcount_table_offset = 32 * kCluster;
  std::vector<uint8_t> start = header.Serialize();
  start.resize(kCluster + kTables * 8);
  for (uint64_t i = 0; i < kTables; ++i) {
    StoreBig64(&start[kCluster + i * 8], (i + 64) * kCluster);
  }
  const TempFolder folder;
  if (!MakeSparse(folder / "a", 3 * kTiB, start)) {
    GTEST_SKIP() << "no sparse files of 3 TiB";
  }
  const auto report = CheckFile(folder / "a");
  ASSERT_TRUE(report.ok()) << report.status();
  // Of the header, the L1 table, the refcount table and each L2 table.
  EXPECT_EQ(report->count(FindingKind::kRefcountTooLow),
            static_cast<int64_t>(kTables) + 6);
  if (!kSanitised) EXPECT_LT(MaxResidentBytes(), int64_t{256} << 20);
}

// Ten thousand bitmaps whose tables, of 8 MiB each, lie at one place.
TEST(CheckMemory, BitmapTablesOnEachOtherTakeNoTime) {
  constexpr uint64_t kCluster = 512;
  constexpr uint64_t kBitmaps = 10000;
  constexpr uint64_t kEntryBytes = 32;
  RawHeader header;
  header.cluster_bits = 9;
  header.l1_size = 32;
  header.l1_offset = kCluster;
  header.refcount_table_offset = 2 * kCluster;
  header.autoclear = kAutoclearBitmaps;
  const uint64_t directory = 3 * kCluster;
  std::vector<uint8_t> extension;
  StoreBig(extension, 0, kBitmaps, 4);
  StoreBig(extension, 8, kBitmaps * kEntryBytes, 8);
  StoreBig(extension, 16, directory, 8);
  header.extensions = {
      {kExtensionBitmaps, std::string(extension.begin(), extension.end())}};
  std::vector<uint8_t> start = header.Serialize();
  for (uint64_t i = 0; i < kBitmaps; ++i) {
    const uint64_t at = directory + i * kEntryBytes;
    StoreBig(start, at, uint64_t{1} << 20, 8);
    StoreBig(start, at + 8, uint64_t{1} << 20, 4);
    StoreBig(start, at + 16, 0x01100001, 4);  // type, granularity, a name
    StoreBig(start, at + 24, 'a', 8);
  }
  const TempFolder folder;
  ASSERT_TRUE(MakeSparse(folder / "a", uint64_t{16} << 20, start));
  const auto report = CheckFile(folder / "a");
  EXPECT_EQ(report.status().code(), absl::StatusCode::kInvalidArgument)
      << report.status();
}

}  // namespace
}  // namespace bgfs::qcow2
