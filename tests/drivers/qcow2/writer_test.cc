// The writing half on real files: histories of everything a disk can be asked
// for, on images that qemu-img made. Afterwards qemu-img finds nothing wrong,
// and reads the same bytes.

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "tests/drivers/history.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

constexpr int64_t kSize = 100352;

struct Row {
  const char* name;
  const char* options;       // of qemu-img create
  int64_t backing = 0;       // bytes; 0: none
  const char* prepare = "";  // qemu-io and qemu-img commands, IMG the image
  bool direct = false;
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows = {
      {.name = "Default", .options = "compat=1.1"},
      {.name = "Smallest", .options = "cluster_size=512"},
      {.name = "SmallestWideCounts",
       .options = "cluster_size=512,refcount_bits=64"},
      {.name = "SmallestNarrowCounts",
       .options = "cluster_size=512,refcount_bits=1"},
      {.name = "FourBitCounts", .options = "cluster_size=1k,refcount_bits=4"},
      {.name = "Largest", .options = "cluster_size=2M"},
      {.name = "Version2", .options = "compat=0.10,cluster_size=512"},
      {.name = "Version2Over",
       .options = "compat=0.10,cluster_size=1k",
       .backing = 150000},
      {.name = "OverShorter", .options = "cluster_size=1k", .backing = 50000},
      {.name = "OverLonger", .options = "cluster_size=4k", .backing = 200000},
      {.name = "Direct", .options = "cluster_size=512", .direct = true},
      {.name = "DirectOver",
       .options = "cluster_size=4k",
       .backing = 100352,
       .direct = true},
      {.name = "Snapshot",
       .options = "cluster_size=1k",
       .prepare = "qemu-io -f qcow2 -c 'write -P 0 0 60k' IMG && "
                  "qemu-img snapshot -c one IMG && "
                  "qemu-io -f qcow2 -c 'write -z 10k 30k' IMG"},
      {.name = "Preallocated",
       .options = "cluster_size=1k,preallocation=metadata"},
  };
  return rows;
}

class WriterTest : public ::testing::TestWithParam<Row> {
 protected:
  static void Shell(const std::string& command) {
    ASSERT_EQ(std::system(absl::StrCat("(", command, ") >/dev/null").c_str()),
              0)
        << command;
  }
  // Makes the image; gives what it reads as.
  static std::string Make(const TempFolder& folder, const std::string& image,
                          uint64_t seed) {
    const Row& row = GetParam();
    std::string content(kSize, '\0');
    std::string backing;
    if (row.backing > 0) {
      std::string below(static_cast<size_t>(row.backing), '\0');
      SimRandom random(seed);
      for (char& c : below) c = static_cast<char>(random.Next());
      backing = absl::StrCat(" -F raw -b ", folder.Write("base.img", below));
      for (size_t i = 0; i < std::min(below.size(), content.size()); ++i) {
        content[i] = below[i];
      }
    }
    Shell(absl::StrCat("qemu-img create -q -f qcow2 -o ", row.options, backing,
                       " ", image, " ", kSize));
    if (*row.prepare != '\0') {
      Shell(absl::StrCat("IMG=", image, "; ",
                         absl::StrReplaceAll(row.prepare, {{"IMG", "$IMG"}})));
    }
    return content;
  }
};

TEST_P(WriterTest, History) {
  ForEachSeed(5, [](uint64_t seed) {
    TempFolder folder("/tmp");
    const std::string image = folder / "top.qcow2";
    std::string content = Make(folder, image, seed);
    auto loop = MakeLoop("test");
    ASSERT_TRUE(loop.ok());
    Graph graph(loop->get());
    History::Subject subject;
    subject.spec = ParseNode(absl::StrCat(
        "discard: UNMAP ", GetParam().direct ? "cache { direct: true } " : "",
        "qcow2 { file { filename: \"", image, "\" } }"));
    subject.spec.set_read_only(false);
    History history(&graph, subject, std::move(content), seed);
    BlockOn(**loop, history.Run());
    if (history.failed()) return;
    Shell(absl::StrCat("qemu-img check -q ", image));
    Shell(absl::StrCat("qemu-img convert -O raw ", image, " ", folder / "raw"));
    const std::string raw = ReadHostFile(folder / "raw");
    // QEMU sees whole sectors only.
    ASSERT_EQ(raw.size(), history.content().size() / 512 * 512);
    EXPECT_TRUE(raw == history.content().substr(0, raw.size()));
  });
}

INSTANTIATE_TEST_SUITE_P(Images, WriterTest, ::testing::ValuesIn(Rows()),
                         [](const auto& row) {
                           return std::string(row.param.name);
                         });

}  // namespace
}  // namespace bgfs
