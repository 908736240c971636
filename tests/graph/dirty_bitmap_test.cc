// Dirty bitmaps alone (engine.md, 2.12). What sets them is in books_test.cc.

#include "graph/dirty_bitmap.h"

#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kUnit = 512;

TEST(DirtyBits, AreWholeUnits) {
  DirtyBits bits(kUnit);
  bits.Set({1000, 100});  // units 1 and 2
  EXPECT_EQ(bits.dirty_bytes(), 2 * kUnit);
  EXPECT_FALSE(bits.IsSet(511));
  EXPECT_TRUE(bits.IsSet(512));
  EXPECT_TRUE(bits.IsSet(1535));
  EXPECT_FALSE(bits.IsSet(1536));
  bits.Clear({513, 1022});  // neither of them whole
  EXPECT_EQ(bits.dirty_bytes(), 2 * kUnit);
  bits.Clear({513, 1023});
  EXPECT_EQ(bits.dirty_bytes(), kUnit);
  EXPECT_TRUE(bits.IsSet(512));
  bits.Set({0, 0});
  EXPECT_EQ(bits.dirty_bytes(), kUnit);
}

TEST(DirtyBits, OfAWholeNodeOfAnySize) {
  DirtyBits bits(kUnit);
  bits.Set({0, kMaxNodeBytes});
  EXPECT_EQ(bits.dirty_bytes(), kMaxNodeBytes);
  bits.Set({0, Range::kToInfinity});
  EXPECT_TRUE(bits.IsSet(Range::kToInfinity - 1));
  bits.Clear({0, Range::kToInfinity});
  EXPECT_EQ(bits.dirty_bytes(), 0);
}

TEST(DirtyBits, NextIsTheFirstPartInside) {
  DirtyBits bits(kUnit);
  bits.Set({1024, 1024});
  bits.Set({4096, 512});
  const auto next = [&bits](int64_t offset, int64_t bytes) {
    const Range range = bits.Next({offset, bytes});
    return std::pair(range.offset, range.bytes);
  };
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_EQ(next(0, 8192), Pair(1024, 1024));
  EXPECT_EQ(next(1500, 100), Pair(1500, 100));
  EXPECT_EQ(next(2048, 8192), Pair(4096, 512));
  EXPECT_EQ(next(2048, 2048).second, 0);
  EXPECT_EQ(next(4608, 8192).second, 0);
}

// Against plain bits.
TEST(DirtyBits, AgreeWithAPlainArray) {
  constexpr int kUnits = 64;
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    DirtyBits bits(kUnit);
    std::vector<bool> model(kUnits);
    for (int step = 0; step < 60; ++step) {
      const auto first = static_cast<int>(random() % kUnits);
      const int count = 1 + static_cast<int>(random() % (kUnits - first));
      const bool set = random() % 2 == 0;
      const Range range = {first * kUnit, count * kUnit};
      set ? bits.Set(range) : bits.Clear(range);
      for (int i = first; i < first + count; ++i) model[i] = set;
      int64_t dirty = 0;
      for (int i = 0; i < kUnits; ++i) {
        ASSERT_EQ(bits.IsSet(i * kUnit), model[i]) << round << " " << step;
        if (model[i]) dirty += kUnit;
      }
      ASSERT_EQ(bits.dirty_bytes(), dirty);
    }
  }
}

TEST(DirtyBitmap, RefusesWhatCannotBe) {
  DirtyBitmaps bitmaps;
  for (const int64_t granularity : {0, 256, 513, 65537}) {
    EXPECT_EQ(bitmaps.Add("x", granularity).status().code(),
              absl::StatusCode::kInvalidArgument)
        << granularity;
  }
  EXPECT_FALSE(bitmaps.Add(std::string(1024, 'x'), 512).ok());
  EXPECT_TRUE(bitmaps.Add("x", 512).ok());
  EXPECT_THAT(bitmaps.Add("x", 512).status().message(), HasSubstr("\"x\""));
  EXPECT_TRUE(bitmaps.Add("", 512).ok());
  EXPECT_TRUE(bitmaps.Add("", 512).ok()) << "any number without a name";
  EXPECT_EQ(bitmaps.Find(""), nullptr);
}

TEST(DirtyBitmap, ADisabledOneRecordsNothing) {
  DirtyBitmaps bitmaps;
  DirtyBitmap* a = *bitmaps.Add("a", kUnit);
  DirtyBitmap* b = *bitmaps.Add("b", 2 * kUnit);
  EXPECT_TRUE(a->SetEnabled(false).ok());
  bitmaps.Changed({0, 1});
  EXPECT_EQ(a->bits().dirty_bytes(), 0);
  EXPECT_EQ(b->bits().dirty_bytes(), 2 * kUnit);
}

TEST(DirtyBitmap, AFrozenOneStandsStillAndItsSuccessorRecords) {
  for (const bool success : {false, true}) {
    DirtyBitmaps bitmaps;
    DirtyBitmap* bitmap = *bitmaps.Add("a", kUnit);
    bitmaps.Changed({0, 1});
    EXPECT_TRUE(bitmap->Freeze().ok());
    bitmaps.Changed({kUnit, 1});
    EXPECT_EQ(bitmap->bits().dirty_bytes(), kUnit);
    EXPECT_TRUE(bitmap->busy());
    success ? bitmap->Abdicate() : bitmap->Reclaim();
    EXPECT_FALSE(bitmap->busy());
    EXPECT_EQ(bitmap->bits().IsSet(0), !success);
    EXPECT_TRUE(bitmap->bits().IsSet(kUnit));
    bitmaps.Changed({2 * kUnit, 1});
    EXPECT_TRUE(bitmap->bits().IsSet(2 * kUnit));
  }
}

TEST(DirtyBitmap, ABusyOneIsLeftAlone) {
  DirtyBitmaps bitmaps;
  DirtyBitmap* bitmap = *bitmaps.Add("a", kUnit);
  bitmaps.Changed({0, 1});
  for (const bool frozen : {false, true}) {
    if (frozen) {
      EXPECT_TRUE(bitmap->Freeze().ok());
    } else {
      bitmap->SetBusy(true);
    }
    EXPECT_FALSE(bitmap->SetEnabled(false).ok());
    EXPECT_FALSE(bitmap->Clear().ok());
    EXPECT_FALSE(bitmap->Freeze().ok());
    EXPECT_THAT(bitmaps.Remove(bitmap).message(),
                HasSubstr("\"a\" cannot be removed"));
    bitmap->SetBusy(false);
  }
  bitmap->Reclaim();
  EXPECT_EQ(bitmap->bits().dirty_bytes(), kUnit);
  EXPECT_TRUE(bitmap->Clear().ok());
  EXPECT_EQ(bitmap->bits().dirty_bytes(), 0);
  EXPECT_TRUE(bitmaps.Remove(bitmap).ok());
  EXPECT_TRUE(bitmaps.empty());
}

}  // namespace
}  // namespace bgfs
