#include "drivers/memory.h"

#include <cerrno>

#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

constexpr int64_t kChunk = 65536;

std::string Memory(const std::string& size) {
  return absl::StrCat("read_only: false discard: UNMAP memory { size: \"", size,
                      "\" }");
}

TEST(MemoryDriverTest, TakesMemoryOnlyWhereItIsWritten) {
  TestGraph graph;
  auto disk = graph.Disk(Memory("1125899906842624"));
  EXPECT_EQ(disk->AllocatedBytes(), 0);
  EXPECT_EQ(disk->Write(disk->size() - kChunk - 1, "ab"), 0);
  EXPECT_EQ(disk->AllocatedBytes(), 2 * kChunk);
  EXPECT_EQ(disk->Read(disk->size() - kChunk - 2, 4), std::string("\0ab\0", 4));
  EXPECT_EQ(disk->Zero(0, disk->size(), kMayUnmap), 0);
  EXPECT_EQ(disk->AllocatedBytes(), 0);
}

TEST(MemoryDriverTest, FreesOnlyWholeChunks) {
  TestGraph graph;
  auto disk = graph.Disk(Memory("200000"));
  EXPECT_EQ(disk->Write(0, std::string(200000, 'a')), 0);
  EXPECT_EQ(disk->Discard(1, 2 * kChunk - 1), 0);
  EXPECT_EQ(disk->AllocatedBytes(), 3 * kChunk);
  EXPECT_EQ(disk->Read(0, 3), std::string("a\0\0", 3));
  EXPECT_EQ(disk->Zero(kChunk, kChunk), 0);
  EXPECT_EQ(disk->AllocatedBytes(), 3 * kChunk);
}

TEST(MemoryDriverTest, StatusJoinsNeighbours) {
  TestGraph graph;
  auto disk = graph.Disk(Memory("1000000"));
  EXPECT_EQ(disk->Write(2 * kChunk, std::string(2 * kChunk, 'a')), 0);
  const BlockStatus hole = disk->Status(10, 999990);
  EXPECT_EQ(hole.flags, BlockStatus::kZero | BlockStatus::kAllocated);
  EXPECT_EQ(hole.bytes, 2 * kChunk - 10);
  const BlockStatus data = disk->Status(2 * kChunk, 999999);
  EXPECT_EQ(data.flags, BlockStatus::kData | BlockStatus::kAllocated);
  EXPECT_EQ(data.bytes, 2 * kChunk);
  const BlockStatus end = disk->Status(4 * kChunk, 1000000);
  EXPECT_EQ(end.flags,
            BlockStatus::kZero | BlockStatus::kAllocated | BlockStatus::kEof);
}

TEST(MemoryDriverTest, WhatWasCutOffComesBackAsZeros) {
  TestGraph graph;
  auto disk = graph.Disk(Memory("200000"));
  EXPECT_EQ(disk->Write(0, std::string(200000, 'a')), 0);
  EXPECT_EQ(disk->Truncate(70000), 0);
  EXPECT_EQ(disk->Truncate(200000), 0);
  EXPECT_EQ(disk->Read(69999, 100), "a" + std::string(99, '\0'));
  EXPECT_EQ(disk->Read(199990, 10), std::string(10, '\0'));
  EXPECT_EQ(disk->Truncate(300000, Preallocation::kFull), ENOTSUP);
}

}  // namespace
}  // namespace bgfs
