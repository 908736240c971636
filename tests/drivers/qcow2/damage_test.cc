// Images cut short and garbled, from seeds: the driver may refuse them or read
// something, but never crashes, hangs or takes memory without bound.

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "drivers/qcow2/header.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/chain_gen.h"
#include "tests/drivers/qcow2/file_bytes.h"
#include "tests/drivers/qcow2/open_chain.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

using Bytes = std::vector<uint8_t>;

// Sanitizers keep memory of their own.
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitised = true;
#else
constexpr bool kSanitised = false;
#endif

// Where to damage an image: [begin, end) of the file.
struct Area {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// The header, the L1 table, the L2 tables it points to, and the whole file.
std::vector<Area> AreasOf(const Bytes& image) {
  const absl::StatusOr<Header> header =
      ParseHeader(absl::MakeSpan(image).subspan(0, 65536),
                  static_cast<int64_t>(image.size()));
  std::vector<Area> areas = {{0, 200}, {0, image.size()}};
  if (!header.ok()) return areas;
  const auto l1 = static_cast<uint64_t>(header->l1_table.value());
  const auto entries = static_cast<uint64_t>(header->l1_entries_needed);
  areas.push_back({l1, l1 + entries * 8});
  const auto cluster = static_cast<uint64_t>(header->geometry.cluster_size());
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t table = LoadBig64(&image[l1 + i * 8]) & kEntryOffsetMask;
    if (table != 0) areas.push_back({table, table + cluster});
  }
  return areas;
}

Bytes Damage(const Bytes& good, const std::vector<Area>& areas,
             std::mt19937_64& random) {
  Bytes bad = good;
  if (random() % 4 == 0) bad.resize(random() % bad.size());
  const Area area = areas[random() % areas.size()];
  for (uint64_t n = random() % 8; n > 0; --n) {
    const uint64_t at = area.begin + random() % (area.end - area.begin);
    const auto value = static_cast<uint8_t>(
        random() % 2 == 0 ? random() : (random() % 2 == 0 ? 0xff : 0));
    if (at < bad.size()) bad[at] = value;
  }
  return bad;
}

// Reads some of it in every way there is.
bool Exercise(const std::string& path, std::mt19937_64& random) {
  auto opened = OpenChain::Open(path);
  if (!opened.ok()) {
    EXPECT_EQ(opened.status().message().find('\n'), std::string::npos);
    return false;
  }
  OpenChain& chain = **opened;
  std::vector<char> buffer(size_t{1} << 20);
  const int64_t near_start = std::min<int64_t>(chain.size(), 8 << 20);
  for (int64_t at = 0; at < near_start; at += 1 << 20) {
    (void)chain.Read(at, std::min<int64_t>(1 << 20, chain.size() - at),
                     buffer.data());
  }
  for (int i = 0; i < 20 && chain.size() > 0; ++i) {
    const auto offset =
        static_cast<int64_t>(random() % static_cast<uint64_t>(chain.size()));
    const int64_t bytes =
        1 + static_cast<int64_t>(random() % 65536) % (chain.size() - offset);
    (void)chain.Read(offset, bytes, buffer.data());
  }
  int64_t at = 0;
  for (int i = 0; i < 200 && at < chain.size(); ++i) {
    int error = 0;
    const BlockStatus status = chain.Status(at, chain.size() - at, &error);
    at += error == 0 ? status.bytes : 65536;
  }
  return true;
}

int64_t MaxResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

class Damaged : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, Damaged, testing::Values(0, 4, 8, 16, 20, 24));

TEST_P(Damaged, NeverCrashesHangsOrSwells) {
  const TempFolder folder;
  // A chain of one layer; its seed gives the cluster size.
  absl::StatusOr<Chain> chain = MakeChain(folder.path(), GetParam());
  if (!chain.ok()) GTEST_SKIP() << chain.status();
  ASSERT_EQ(chain->depth, 1);
  const Bytes good = LoadFile(chain->top);
  const std::vector<Area> areas = AreasOf(good);
  const std::string bad = folder / "bad.qcow2";
  std::mt19937_64 random(GetParam());
  int opened = 0;
  const int64_t before = MaxResidentBytes();
  constexpr int kRounds = 60;
  for (int i = 0; i < kRounds; ++i) {
    SCOPED_TRACE(testing::Message() << "seed " << GetParam() << " round " << i);
    StoreFile(bad, Damage(good, areas, random));
    if (Exercise(bad, random)) ++opened;
  }
  EXPECT_GT(opened, kRounds / 10);
  EXPECT_LT(opened, kRounds);
  if (!kSanitised) {
    EXPECT_LT(MaxResidentBytes() - before, int64_t{64} << 20);
  }
}

}  // namespace
}  // namespace bgfs::qcow2
