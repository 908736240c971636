// Opening nodes: what goes together, what is inherited, and that a failure
// leaves nothing behind.

#include "drivers/create.h"

#include <fcntl.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string Raw(const std::string& path, const std::string& more = "") {
  return absl::StrCat("read_only: false ", more, " raw { file { filename: \"",
                      path, "\" } }");
}

TEST(OpenNodeTest, OpensInlineChildrenAndReadsAndWrites) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(5000, 'a'));
  TestGraph graph;
  auto disk = graph.Disk(Raw(path));
  EXPECT_EQ(disk->size(), 5000);
  EXPECT_EQ(disk->Write(4990, std::string(10, 'b')), 0);
  EXPECT_EQ(disk->Read(4989, 11), "a" + std::string(10, 'b'));
  EXPECT_EQ(disk->Flush(), 0);
  EXPECT_THAT(graph.graph().nodes(), SizeIs(2));
  disk.reset();
  EXPECT_TRUE(graph.Close().ok());
  EXPECT_EQ(ReadHostFile(path), std::string(4990, 'a') + std::string(10, 'b'));
}

TEST(OpenNodeTest, FindsNamedChildren) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(5000, 'a'));
  TestGraph graph;
  ASSERT_TRUE(graph
                  .Open(absl::StrCat("node_name: \"f\" read_only: false file { "
                                     "filename: \"",
                                     path, "\" }"))
                  .ok());
  auto disk = graph.Disk(
      "node_name: \"part\" read_only: false raw { file_node: \"f\" offset: "
      "\"1000\" size: \"10\" }");
  EXPECT_EQ(disk->size(), 10);
  EXPECT_EQ(disk->Read(0, 10), std::string(10, 'a'));
  disk.reset();
  EXPECT_THAT(graph.Open("raw { file_node: \"g\" }").status().message(),
              HasSubstr("node \"g\" is not open"));
}

TEST(OpenNodeTest, WhatDoesNotSayIsReadOnly) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", "abc");
  TestGraph graph;
  auto node =
      graph.Open(absl::StrCat("raw { file { filename: \"", path, "\" } }"));
  ASSERT_TRUE(node.ok());
  EXPECT_TRUE((*node)->read_only());
  EXPECT_TRUE((*node)->child("file")->node().read_only());
  EXPECT_FALSE(graph.Attach(*node, kReadWrite).ok());
}

TEST(OpenNodeTest, DetectsZerosAsItIsTold) {
  TestGraph graph;
  for (const auto& [text, detect] : {
           std::pair{"OFF", DetectZeroes::kOff},
           {"ON", DetectZeroes::kOn},
           {"UNMAP", DetectZeroes::kUnmap},
       }) {
    auto node = graph.Open(
        absl::StrCat("memory { size: \"1\" } detect_zeroes: ", text));
    ASSERT_TRUE(node.ok()) << node.status();
    EXPECT_EQ((*node)->options().detect_zeroes, detect) << text;
  }
}

TEST(OpenNodeTest, SetsTheWriteThreshold) {
  TestGraph graph;
  auto node = graph.Open(
      "read_only: false write_threshold: \"1000\" memory { size: \"4096\" }");
  ASSERT_TRUE(node.ok());
  EXPECT_TRUE((*node)->write_threshold().armed());
  EXPECT_EQ((*node)->write_threshold().threshold(), 1000);
  auto never = graph.Open("write_threshold: \"0\" memory { size: \"4096\" }");
  ASSERT_TRUE(never.ok());
  EXPECT_FALSE((*never)->write_threshold().armed());
}

TEST(OpenNodeTest, InlineFilesInheritWhatTheyDoNotSay) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", std::string(8192, 'a'));
  TestGraph graph;
  auto node = graph.Open(Raw(path, "cache { direct: true no_flush: true }"));
  ASSERT_TRUE(node.ok()) << node.status();
  const Node& file = (*node)->child("file")->node();
  EXPECT_GT(file.limits().request_alignment, 1);
  EXPECT_TRUE(file.options().no_flush);
  EXPECT_TRUE(file.options().unmap);
  EXPECT_FALSE((*node)->options().unmap);

  auto own = graph.Open(absl::StrCat(
      "read_only: false cache { direct: true no_flush: true } raw { file { "
      "filename: \"",
      path, "\" cache { direct: false } } }"));
  ASSERT_TRUE(own.ok()) << own.status();
  const Node& own_file = (*own)->child("file")->node();
  EXPECT_EQ(own_file.limits().request_alignment, 1);
  EXPECT_TRUE(own_file.options().no_flush);
}

TEST(OpenNodeTest, FailureLeavesNothing) {
  TempFolder folder;
  const std::string path = folder.Write("disk.img", "abc");
  TestGraph graph;
  auto node =
      graph.Open(absl::StrCat("node_name: \"win\" raw { file { filename: \"",
                              path, "\" } offset: \"4\" }"));
  EXPECT_THAT(node.status().message(),
              AllOf(HasSubstr("node \"win\": "),
                    HasSubstr("reaches past the end of the file")));
  EXPECT_THAT(graph.graph().nodes(), SizeIs(0));
}

TEST(OpenNodeTest, FailureGivesUpRightsOnWhatStays) {
  TempFolder folder;
  const std::string path = folder / "a.qcow2";
  // One that cannot be written.
  ASSERT_EQ(
      std::system(absl::StrCat("qemu-img create -q -f qcow2 ", path,
                               " 1M && qemu-img bitmap --add ", path, " b0")
                      .c_str()),
      0);
  TestGraph graph;
  ASSERT_TRUE(graph
                  .Open(absl::StrCat("node_name: \"f\" read_only: false file { "
                                     "filename: \"",
                                     path, "\" }"))
                  .ok());
  const auto node = graph.Open("read_only: false qcow2 { file_node: \"f\" }");
  EXPECT_THAT(node.status().message(), HasSubstr("read-only"));
  EXPECT_TRUE(graph.graph().FindNode("f")->parents().empty());
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  EXPECT_EQ(fcntl(fd, F_OFD_GETLK, &lock), 0);
  EXPECT_EQ(lock.l_type, F_UNLCK) << "byte " << lock.l_start;
  close(fd);
}

TEST(OpenNodeTest, RefusesBadNamesAndNumbers) {
  TestGraph graph;
  const std::string memory = "memory { size: \"1000\" }";
  ASSERT_TRUE(graph.Open("node_name: \"a\" " + memory).ok());
  EXPECT_THAT(graph.Open("node_name: \"a\" " + memory).status().message(),
              HasSubstr("already"));
  EXPECT_THAT(
      graph.Open("node_name: \"" + std::string(32, 'n') + "\" " + memory)
          .status()
          .message(),
      HasSubstr("longer than 31 bytes"));
  EXPECT_THAT(graph.Open("memory { size: \"1K\" }").status().message(),
              HasSubstr("size \"1K\" is not a number of bytes"));
  EXPECT_THAT(graph.Open("").status().message(), HasSubstr("no driver"));
  EXPECT_THAT(graph.graph().nodes(), SizeIs(1));
}

}  // namespace
}  // namespace bgfs
