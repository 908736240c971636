#include "drivers/raw.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

using ::testing::HasSubstr;

class RawDriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(graph_
                    .Open("node_name: \"m\" discard: UNMAP read_only: false "
                          "memory { size: \"300000\" }")
                    .ok());
  }
  std::unique_ptr<TestDisk> Raw(const std::string& window,
                                Permissions used = kReadWrite) {
    return graph_.Disk(
        absl::StrCat("read_only: false discard: UNMAP raw { file_node: \"m\" ",
                     window, " }"),
        used);
  }

  TestGraph graph_;
};

TEST_F(RawDriverTest, WindowsShowPartsOfOneFile) {
  auto whole = Raw("");
  auto part = Raw("offset: \"1000\" size: \"511\"");
  EXPECT_EQ(part->size(), 511);
  EXPECT_EQ(whole->Write(999, "abc"), 0);
  EXPECT_EQ(part->Read(0, 3), std::string("bc\0", 3));
  EXPECT_EQ(part->Write(510, "x"), 0);
  EXPECT_EQ(whole->Read(1509, 3), std::string("\0x\0", 3));
  EXPECT_EQ(part->Zero(0, 1), 0);
  EXPECT_EQ(whole->Read(999, 3), std::string("a\0c", 3));
}

TEST_F(RawDriverTest, OffersItsFileOnlyWithoutAWindow) {
  const TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(1000, 'a'));
  ASSERT_TRUE(graph_
                  .Open(absl::StrCat("node_name: \"f\" read_only: false file { "
                                     "filename: \"",
                                     path, "\" }"))
                  .ok());
  const auto open = [this](const std::string& raw) {
    return graph_.Disk(absl::StrCat("read_only: false raw { ", raw, " }"));
  };
  for (const char* raw : {"file_node: \"m\"", "file_node: \"f\" offset: \"1\"",
                          "file_node: \"f\" size: \"1000\""}) {
    auto disk = open(raw);
    EXPECT_EQ(disk->backend().node().driver().host_bytes(), nullptr) << raw;
  }
  auto disk = open("file_node: \"f\"");
  HostBytes* bytes = disk->backend().node().driver().host_bytes();
  ASSERT_NE(bytes, nullptr);
  struct stat info = {};
  struct stat expected = {};
  ASSERT_EQ(fstat(bytes->descriptor(), &info), 0);
  ASSERT_EQ(stat(path.c_str(), &expected), 0);
  EXPECT_EQ(info.st_ino, expected.st_ino);

  ASSERT_EQ(truncate(path.c_str(), 2000), 0);
  EXPECT_EQ(disk->size(), 1000);
  const auto seen = disk->Do(disk->backend().Look());
  ASSERT_TRUE(seen.ok());
  EXPECT_EQ(seen->size, 2000);
  EXPECT_EQ(disk->size(), 2000);
  EXPECT_EQ(disk->Read(999, 2), std::string("a\0", 2));
}

TEST_F(RawDriverTest, WindowWithASizeStays) {
  auto part = Raw("offset: \"1000\" size: \"511\"");
  auto after = Raw("offset: \"1511\" size: \"5\"");
  EXPECT_EQ(after->Write(0, "after"), 0);
  EXPECT_EQ(part->Write(510, "xy"), ENOSPC);
  EXPECT_EQ(part->Truncate(600), ENOTSUP);
  EXPECT_EQ(part->Truncate(500), ENOTSUP);
  EXPECT_EQ(part->size(), 511);
  EXPECT_EQ(after->Read(0, 5), "after");
}

TEST_F(RawDriverTest, WindowWithoutASizeFollowsItsFile) {
  auto whole = Raw("");
  auto end = Raw("offset: \"299000\"");
  EXPECT_EQ(end->size(), 1000);
  EXPECT_EQ(whole->Truncate(299500), 0);
  EXPECT_EQ(end->size(), 500);
  EXPECT_EQ(end->Truncate(800), 0);
  EXPECT_EQ(whole->size(), 299800);
  EXPECT_EQ(end->Write(800, "more"), 0);
  EXPECT_EQ(whole->size(), 299804);
  EXPECT_EQ(whole->Read(299799, 5), std::string("\0more", 5));
  EXPECT_EQ(whole->Truncate(10), 0);
  EXPECT_EQ(end->size(), 0);
}

TEST_F(RawDriverTest, StatusIsThatOfTheFile) {
  auto part = Raw("offset: \"1000\"");
  EXPECT_EQ(part->Write(131072 - 1000, "x"), 0);
  const BlockStatus hole = part->Status(0, part->size());
  EXPECT_EQ(hole.flags,
            BlockStatus::kZero | BlockStatus::kAllocated | BlockStatus::kRaw);
  EXPECT_EQ(hole.bytes, 131072 - 1000);
  EXPECT_EQ(hole.file, graph_.graph().FindNode("m"));
  EXPECT_EQ(hole.file_offset, 1000);
  const BlockStatus data = part->Status(131072 - 1000 + 5, 10);
  EXPECT_EQ(data.flags,
            BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw);
  EXPECT_EQ(data.file_offset, 131077);
}

TEST_F(RawDriverTest, DiscardsAndReservationsReachTheFile) {
  auto part = Raw("offset: \"65536\"");
  EXPECT_EQ(part->Reserve(0, 131072), 0);
  EXPECT_EQ(part->AllocatedBytes(), 131072);
  EXPECT_EQ(part->Discard(0, 65536), 0);
  EXPECT_EQ(part->AllocatedBytes(), 65536);
  EXPECT_EQ(part->Zero(65536, 65536, kMayUnmap), 0);
  EXPECT_EQ(part->AllocatedBytes(), 0);
}

TEST_F(RawDriverTest, RefusesWindowsPastTheEnd) {
  for (const char* window :
       {"offset: \"300001\"", "size: \"300001\"",
        "offset: \"1\" size: \"300000\"",
        "offset: \"9223372036854775807\" size: \"9223372036854775807\""}) {
    EXPECT_THAT(
        graph_.Open(absl::StrCat("raw { file_node: \"m\" ", window, " }"))
            .status()
            .message(),
        HasSubstr("reaches past the end of the file, which has 300000"))
        << window;
  }
}

}  // namespace
}  // namespace bgfs
