#include "tests/sim/sim_store.h"

#include <cstdint>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/sim/sim_random.h"

namespace bgfs {
namespace {

constexpr int64_t kBlock = SimImage::kBlock;

SimChange Write(int64_t offset, std::string data) {
  const auto bytes = static_cast<int64_t>(data.size());
  return {.offset = offset, .bytes = bytes, .data = std::move(data)};
}
SimChange Range(SimChange::Kind kind, int64_t offset, int64_t bytes,
                bool keep_size = true) {
  return {
      .kind = kind, .offset = offset, .bytes = bytes, .keep_size = keep_size};
}
SimChange Resize(int64_t bytes) {
  return {.kind = SimChange::Kind::kResize, .bytes = bytes};
}
std::string All(const SimImage& image) { return image.Read(0, image.size()); }

// Bytes against a string, allocation against a rule: what was written or
// allocated since it was last freed as a whole block.
TEST(SimImage, IsLikeAString) {
  SimRandom random(1);
  SimImage image;
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    const int64_t offset = random.Below(10 * kBlock);
    const int64_t bytes = random.Between(1, 3 * kBlock);
    const auto at = static_cast<size_t>(offset);
    const auto count = static_cast<size_t>(bytes);
    const bool keep = random.Chance(0.5);
    const auto kind = static_cast<SimChange::Kind>(random.Below(5));
    if (kind == SimChange::Kind::kResize) {
      image.Apply(Resize(offset));
      text.resize(at);
    } else if (kind == SimChange::Kind::kWrite) {
      const std::string data(count, static_cast<char>(random.Between(1, 9)));
      image.Apply(Write(offset, data));
      text.resize(std::max(text.size(), at + count));
      text.replace(at, count, data);
    } else {
      image.Apply(Range(kind, offset, bytes, keep));
      if (!keep) text.resize(std::max(text.size(), at + count));
      if (kind != SimChange::Kind::kAllocate && at < text.size()) {
        const size_t here = std::min(count, text.size() - at);
        text.replace(at, here, std::string(here, '\0'));
      }
    }
    ASSERT_EQ(image.size(), static_cast<int64_t>(text.size()));
    ASSERT_TRUE(All(image) == text) << "after change " << i;
  }
}

TEST(SimImage, KnowsHolesUnwrittenAndData) {
  SimImage image;
  image.Apply(Resize(8 * kBlock + 100));
  EXPECT_EQ(image.allocated_bytes(), 0);
  EXPECT_EQ(image.NextData(0), std::nullopt);
  EXPECT_EQ(image.NextHole(5), 5);
  EXPECT_EQ(image.MissingBytes(Write(2 * kBlock - 1, "ab")), 2 * kBlock);
  image.Apply(Write(2 * kBlock - 1, "ab"));
  EXPECT_EQ(image.MissingBytes(Write(2 * kBlock - 1, "ab")), 0);
  EXPECT_EQ(image.NextData(0), kBlock);
  EXPECT_EQ(image.NextData(kBlock + 7), kBlock + 7);
  EXPECT_EQ(image.NextHole(kBlock), 3 * kBlock);
  image.Apply(Range(SimChange::Kind::kZero, kBlock, kBlock));
  EXPECT_EQ(image.allocated_bytes(), 2 * kBlock);
  EXPECT_EQ(image.NextData(0), 2 * kBlock);
  image.Apply(Range(SimChange::Kind::kPunch, 0, 2 * kBlock + 1));
  EXPECT_EQ(image.allocated_bytes(), kBlock);  // a part of it stays
  image.Apply(Write(8 * kBlock, std::string(100, 'x')));
  EXPECT_EQ(image.NextHole(8 * kBlock), 8 * kBlock + 100);  // the end
  EXPECT_EQ(image.NextData(image.size()), std::nullopt);
  EXPECT_EQ(image.NextHole(image.size()), std::nullopt);
}

TEST(SimStore, WhatWasSyncedStays) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimRandom random(seed);
    SimStore store;
    store.Change(Write(0, std::string(3000, 'a')));
    const int64_t covered = store.changes();
    store.Change(Write(1024, std::string(1000, 'b')));
    store.Sync(covered);  // started before the second write
    store.CutPower(&random);
    const std::string text = All(store.cached());
    ASSERT_EQ(text.size(), 3000);
    for (size_t i = 0; i < text.size(); ++i) {
      if (i < 1024 || i >= 2024) {
        ASSERT_EQ(text[i], 'a') << i;
      }
    }
  }
}

TEST(SimStore, PowerCutTearsAtSectorsAndInAnyOrder) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SimRandom random(seed);
    SimStore store;
    store.Change(Write(0, std::string(2048, '0')));
    store.Sync(store.changes());
    store.Change(Write(256, std::string(1024, '1')));  // sectors 0, 1, 2
    store.Change(Write(512, std::string(1024, '2')));  // sectors 1, 2
    store.Change(Range(SimChange::Kind::kPunch, 1536, 512));
    store.CutPower(&random);
    const std::string text = All(store.cached());
    // One letter a sector; whole sectors only.
    std::string sectors;
    for (const size_t sector : {0, 1, 2, 3}) {
      const char last = text[sector * 512 + 511];
      if (sector != 0) {
        ASSERT_EQ(text.substr(sector * 512 + 256, 256), std::string(256, last));
      }
      sectors += last == '\0' ? '.' : last;
    }
    ASSERT_EQ(text.substr(0, 256), std::string(256, '0'));
    seen.insert(sectors);
  }
  // Sector 0: 0 or 1; 1: any; 2: any (its first half only is '1'); 3: 0 or
  // punched.
  EXPECT_EQ(seen.size(), 2 * 3 * 2 * 2);
  EXPECT_EQ(seen.count("0000"), 1);
  EXPECT_EQ(seen.count("122."), 1);
  EXPECT_EQ(seen.count("012."), 1);  // the first write torn
  EXPECT_EQ(seen.count("020."), 1);  // the later without the earlier
}

TEST(SimStore, SizesAreStepsOfAJournal) {
  std::set<int64_t> sizes;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SimRandom random(seed);
    SimStore store;
    store.Change(Write(0, std::string(kBlock, 'a')));
    store.Sync(store.changes());
    store.Change(Resize(100));
    store.Change(Resize(3 * kBlock));
    store.CutPower(&random);
    const std::string text = All(store.cached());
    sizes.insert(store.cached().size());
    // Never the later step without the earlier.
    const size_t kept = text.find_first_of('\0');
    ASSERT_EQ(kept, text.size() == 3 * kBlock ? 100 : std::string::npos);
  }
  EXPECT_EQ(sizes, (std::set<int64_t>{100, kBlock, 3 * kBlock}));
}

TEST(SimStore, AFailedSyncIsNeverMadeUpFor) {
  bool lost_from_cache = false;
  bool lost_from_disk_only = false;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SimRandom random(seed);
    SimStore store;
    store.Change(Write(0, "old"));
    store.Sync(store.changes());
    store.Change(Write(0, "new"));
    store.FailSync(store.changes(), 0.5, &random);
    const std::string cached = All(store.cached());
    store.Sync(store.changes());  // succeeds, and lies
    store.CutPower(&random);
    const std::string durable = All(store.cached());
    lost_from_cache |= cached == "old" && durable == "old";
    lost_from_disk_only |= cached == "new" && durable == "old";
    EXPECT_FALSE(cached == "old" && durable == "new");
  }
  EXPECT_TRUE(lost_from_cache);
  EXPECT_TRUE(lost_from_disk_only);
}

}  // namespace
}  // namespace bgfs
