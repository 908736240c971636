#include "drivers/qcow2/refcount_entries.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace bgfs::qcow2 {
namespace {

TEST(RefcountEntries, LieAsTheFormatSays) {
  const std::vector<uint8_t> block = {0xb1, 0x02, 0x03, 0x04,
                                      0x05, 0x06, 0x07, 0x08};
  EXPECT_EQ(LoadRefcount(block.data(), 0, 0), 1u);
  EXPECT_EQ(LoadRefcount(block.data(), 0, 1), 0u);
  EXPECT_EQ(LoadRefcount(block.data(), 0, 7), 1u);
  EXPECT_EQ(LoadRefcount(block.data(), 1, 3), 2u);
  EXPECT_EQ(LoadRefcount(block.data(), 2, 1), 0xbu);
  EXPECT_EQ(LoadRefcount(block.data(), 3, 1), 2u);
  EXPECT_EQ(LoadRefcount(block.data(), 4, 1), 0x0304u);
  EXPECT_EQ(LoadRefcount(block.data(), 5, 1), 0x05060708u);
  EXPECT_EQ(LoadRefcount(block.data(), 6, 0), 0xb102030405060708u);
}

TEST(RefcountEntries, AreReadAsTheyWereWritten) {
  for (int order = 0; order <= 6; ++order) {
    SCOPED_TRACE(order);
    const int64_t count = RefcountsPerBlock(512, order);
    EXPECT_EQ(count, 4096 >> order);
    std::vector<uint8_t> block(512, 0xff);
    const auto value = [order](int64_t i) {
      return static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15 & MaxRefcount(order);
    };
    for (int64_t i = 0; i < count; ++i) {
      StoreRefcount(block.data(), order, i, value(i));
    }
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(LoadRefcount(block.data(), order, i), value(i));
    }
  }
}

}  // namespace
}  // namespace bgfs::qcow2
