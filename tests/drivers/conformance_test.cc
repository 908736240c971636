// What holds for every driver: histories on the kernel's files and on the
// simulated disk, where operations end in any order, transfers are short and
// interrupted. A new driver is a new row.

#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "tests/drivers/history.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

struct Row {
  const char* name;
  // FILE stands for the path of a file with `before` bytes of something else,
  // the disk, and `after` bytes more.
  const char* node;
  int64_t size = 100003;
  int64_t before = 0;
  int64_t after = 0;
  bool resizable = true;
  bool forgets = false;
  bool in_file = true;
  const char* folder = "/tmp";
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows = {
      {.name = "File", .node = "discard: UNMAP file { filename: \"FILE\" }"},
      {.name = "FileKeepingSpace", .node = "file { filename: \"FILE\" }"},
      {.name = "FileDirect",
       .node = "discard: UNMAP cache { direct: true } "
               "file { filename: \"FILE\" }"},
      {.name = "FileOnTmpfs",
       .node = "discard: UNMAP file { filename: \"FILE\" }",
       .folder = "/dev/shm"},
      {.name = "Raw",
       .node = "discard: UNMAP raw { file { filename: \"FILE\" } }"},
      {.name = "RawFromOffset",
       .node = "discard: UNMAP "
               "raw { offset: \"1234\" file { filename: \"FILE\" } }",
       .before = 1234},
      {.name = "RawWindow",
       .node = "discard: UNMAP raw { offset: \"512\" size: \"100003\" "
               "file { filename: \"FILE\" } }",
       .before = 512,
       .after = 777,
       .resizable = false},
      {.name = "RawWindowDirect",
       .node = "discard: UNMAP cache { direct: true } raw { offset: \"1234\" "
               "size: \"100003\" file { filename: \"FILE\" } }",
       .before = 1234,
       .after = 777,
       .resizable = false},
      {.name = "RawDirect",
       .node = "discard: UNMAP cache { direct: true } "
               "raw { offset: \"1234\" file { filename: \"FILE\" } }",
       .before = 1234},
      {.name = "Throttle",
       .node = "discard: UNMAP throttle { limits { iops_total: 20000 "
               "bps_write: \"100000000\" } "
               "file_inline { file { filename: \"FILE\" } } }"},
      {.name = "CopyOnRead",
       .node = "discard: UNMAP copy_on_read { "
               "file_inline { file { filename: \"FILE\" } } }"},
      {.name = "Blkdebug",
       .node = "discard: UNMAP blkdebug { align: \"1024\" "
               "max_transfer: \"8192\" opt_write_zero: \"4096\" "
               "max_write_zero: \"16384\" opt_discard: \"2048\" "
               "max_discard: \"8192\" "
               "inject_delay { delay_ms: 1 skip: 20 times: 10 } "
               "file_inline { file { filename: \"FILE\" } } }"},
      {.name = "Memory",
       .node = "discard: UNMAP memory { size: \"100003\" }",
       .in_file = false},
      {.name = "Null",
       .node = "discard: UNMAP null { size: \"100003\" }",
       .forgets = true,
       .in_file = false},
  };
  return rows;
}

class ConformanceTest : public ::testing::TestWithParam<Row> {
 protected:
  static std::string FileContent(const std::string& content) {
    const Row& row = GetParam();
    return absl::StrCat(std::string(row.before, 'B'), content,
                        std::string(row.after, 'A'));
  }
  static std::string Content(uint64_t seed) {
    const Row& row = GetParam();
    std::string content(row.size, '\0');
    if (!row.in_file) return content;
    SimRandom random(seed);
    for (int64_t i = 20000; i < row.size; ++i) {
      content[static_cast<size_t>(i)] = static_cast<char>(random.Next());
    }
    return content;
  }
  static History::Subject Subject(const std::string& path) {
    const Row& row = GetParam();
    History::Subject subject;
    subject.spec = ParseNode(absl::StrReplaceAll(row.node, {{"FILE", path}}));
    subject.spec.set_read_only(false);
    subject.resizable = row.resizable;
    subject.forgets = row.forgets;
    return subject;
  }
};

TEST_P(ConformanceTest, OnTheKernel) {
  const Row& row = GetParam();
  if (access(row.folder, W_OK) != 0) GTEST_SKIP() << "no " << row.folder;
  ForEachSeed(5, [&row](uint64_t seed) {
    TempFolder folder(row.folder);
    const std::string path =
        folder.Write("disk.img", FileContent(Content(seed)));
    auto loop = MakeLoop("test");
    ASSERT_TRUE(loop.ok());
    Graph graph(loop->get());
    History history(&graph, Subject(path), Content(seed), seed);
    BlockOn(**loop, history.Run());
    if (!row.in_file || history.failed()) return;
    EXPECT_EQ(ReadHostFile(path), FileContent(history.content()));
  });
}

TEST_P(ConformanceTest, InSimulation) {
  const Row& row = GetParam();
  ForEachSeed(30, [&row](uint64_t seed) {
    SimWorld world(seed);
    if (seed % 2 == 0) world.disk().options().request_alignment = 4096;
    world.disk().Create("disk.img", FileContent(Content(seed)));
    Graph graph(&world.loop());
    History history(&graph, Subject("disk.img"), Content(seed), seed);
    world.Run(history.Run());
    if (!row.in_file || history.failed()) return;
    EXPECT_EQ(world.disk().Content("disk.img"), FileContent(history.content()));
  });
}

INSTANTIATE_TEST_SUITE_P(Drivers, ConformanceTest, ::testing::ValuesIn(Rows()),
                         [](const auto& row) {
                           return std::string(row.param.name);
                         });

}  // namespace
}  // namespace bgfs
