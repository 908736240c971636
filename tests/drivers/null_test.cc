#include "drivers/null.h"

#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

TEST(NullDriverTest, ForgetsWhatIsWritten) {
  TestGraph graph;
  auto disk = graph.Disk("read_only: false discard: UNMAP null {}");
  EXPECT_EQ(disk->size(), int64_t{1} << 30);
  EXPECT_EQ(disk->Write(10, "abc"), 0);
  EXPECT_EQ(disk->Read(9, 5), std::string(5, '\0'));
  EXPECT_EQ(disk->Truncate(100), 0);
  EXPECT_EQ(disk->size(), 100);
  EXPECT_EQ(disk->Reserve(0, 100), 0);
  EXPECT_EQ(disk->AllocatedBytes(), 0);
  const BlockStatus status = disk->Status(0, 100);
  EXPECT_EQ(status.flags,
            BlockStatus::kZero | BlockStatus::kAllocated | BlockStatus::kEof);
  EXPECT_EQ(status.bytes, 100);
}

}  // namespace
}  // namespace bgfs
