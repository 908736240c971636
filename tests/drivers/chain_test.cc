// Chains as qemu-img makes them, opened by what their headers name.

#include <sys/resource.h>

#include <cstdio>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "drivers/qcow2/qcow2.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ChainTest : public ::testing::Test {
 protected:
  void SetUp() override { folder_.Write("base.img", std::string(65536, 'r')); }
  // `$D` stands for the folder.
  void Shell(const std::string& command) {
    const std::string line =
        absl::StrReplaceAll(command, {{"$D", folder_.path()}});
    ASSERT_EQ(std::system(line.c_str()), 0) << line;
  }
  // An overlay with 1 MiB whose header names `backing`, whatever that is.
  void Overlay(const std::string& name, const std::string& backing,
               const std::string& more = "-F raw") {
    Shell(absl::StrCat("qemu-img create -q -u -f qcow2 ", more, " -b '",
                       backing, "' $D/", name, " 1M"));
  }
  // Removes the record of the backing file's format.
  void ForgetFormat(const std::string& name) {
    std::string image = ReadHostFile(folder_ / name);
    const size_t at = image.find("\xe2\x79\x2a\xca");
    ASSERT_NE(at, std::string::npos);
    image.replace(at, 4, "none");
    folder_.Write(name, image);
  }
  static std::string Node(const std::string& path,
                          const std::string& more = "") {
    return absl::StrCat(more, " qcow2 { file { filename: \"", path, "\" } }");
  }
  static std::string BigEndian(uint64_t value, int bytes) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) {
      text.push_back(static_cast<char>(value >> (8 * i)));
    }
    return text;
  }
  // The most that the L2 cache of the chain's top takes.
  int64_t CacheBytes(const std::string& name) {
    const auto node = graph_.Open(Node(folder_ / name));
    EXPECT_TRUE(node.ok()) << node.status();
    const auto& image = static_cast<const qcow2::Qcow2&>((*node)->driver());
    return image.l2_cache().capacity() * qcow2::L2Cache::kMaxSliceBytes;
  }
  std::string OpenError(const std::string& name) {
    const auto node = graph_.Open(Node(folder_ / name));
    EXPECT_THAT(graph_.graph().nodes(), IsEmpty());
    return std::string(node.status().message());
  }

  TempFolder folder_;
  TestGraph graph_;
};

TEST_F(ChainTest, FollowsNamesOfEveryForm) {
  Overlay("a.qcow2", "base.img");
  Overlay("b.qcow2", "file:a.qcow2", "-F qcow2");
  Overlay("c.qcow2", R"(json:{"driver":"qcow2","file":{"driver":"file",)"
                     R"("filename":"b.qcow2"}})");
  Overlay("d.qcow2", folder_ / "c.qcow2", "-F qcow2");
  auto disk = graph_.Disk(Node(folder_ / "d.qcow2"), kConsistentRead);
  EXPECT_EQ(disk->size(), 1 << 20);
  EXPECT_EQ(disk->Read(65530, 10), "rrrrrr" + std::string(4, '\0'));
  EXPECT_THAT(graph_.graph().nodes(), SizeIs(10));
  EXPECT_THAT(graph_.warnings(), IsEmpty());
  const bgfs::Node* node = &disk->backend().node();
  for (int i = 0; i < 4; ++i) node = &node->backing()->node();
  EXPECT_EQ(node->driver().format_name(), "raw");
  EXPECT_TRUE(node->read_only());
}

TEST_F(ChainTest, CountsTheHostBytesOfEveryLayerOnce) {
  folder_.Write("base.img", std::string(1 << 20, 'r'));
  Overlay("top.qcow2", "base.img");
  auto top = graph_.Disk(
      Node(folder_ / "top.qcow2", "node_name: \"top\" read_only: true"),
      kConsistentRead);
  EXPECT_GE(top->AllocatedBytes(), 1 << 20);
  // The overlay is the file of what is above it.
  auto window = graph_.Disk("read_only: true raw { file_node: \"top\" }",
                            kConsistentRead);
  EXPECT_EQ(window->AllocatedBytes(), top->AllocatedBytes());
}

TEST_F(ChainTest, RelativeNamesAreRelativeToTheirHolder) {
  std::filesystem::create_directory(folder_ / "sub");
  folder_.Write("sub/base.img", std::string(65536, 's'));
  Overlay("sub/a.qcow2", "base.img");
  Overlay("top.qcow2", "sub/a.qcow2", "-F qcow2");
  graph_.context().allow_implicit = {folder_ / "sub"};
  auto disk = graph_.Disk(Node(folder_ / "top.qcow2"), kConsistentRead);
  EXPECT_EQ(disk->Read(0, 2), "ss");
}

TEST_F(ChainTest, ConfiguredBackingsComeFirst) {
  Overlay("a.qcow2", "/none");
  folder_.Write("other.img", std::string(65536, 'o'));
  {
    auto disk = graph_.Disk(
        absl::StrCat("force_share: true cache { no_flush: true } qcow2 { file "
                     "{ filename: \"",
                     folder_ / "a.qcow2",
                     "\" } backing_inline { raw { file { filename: \"",
                     folder_ / "other.img", "\" } } } }"),
        kConsistentRead);
    EXPECT_EQ(disk->Read(0, 2), "oo");
    const bgfs::Node& backing = disk->backend().node().backing()->node();
    EXPECT_TRUE(backing.read_only());
    EXPECT_TRUE(backing.options().no_flush);
  }
  ASSERT_TRUE(graph_.Close().ok());
  EXPECT_THAT(
      graph_
          .Open(absl::StrCat("qcow2 { file { filename: \"", folder_ / "a.qcow2",
                             "\" } backing: \"b\" }"))
          .status()
          .message(),
      HasSubstr("node \"b\" is not open"));
}

TEST_F(ChainTest, RefusesWhereThePolicyDoes) {
  TempFolder elsewhere;
  elsewhere.Write("base.img", "x");
  Overlay("a.qcow2", elsewhere / "base.img");
  Overlay("b.qcow2", "a.qcow2", "-F qcow2");
  EXPECT_THAT(
      OpenError("b.qcow2"),
      AllOf(HasSubstr(absl::StrCat("backing file of \"", folder_ / "a.qcow2")),
            HasSubstr(absl::StrCat("--allow-implicit=", elsewhere.path()))));
  graph_.context().implicit_files = proto::ImplicitFiles::DENY;
  EXPECT_THAT(OpenError("b.qcow2"), HasSubstr("DENY"));
  graph_.context().implicit_files = proto::ImplicitFiles::ANY;
  EXPECT_TRUE(graph_.Open(Node(folder_ / "b.qcow2")).ok());
}

TEST_F(ChainTest, RefusesWhatItCannotOpen) {
  Overlay("a.qcow2", "nbd://host/x");
  EXPECT_THAT(OpenError("a.qcow2"),
              AllOf(HasSubstr("backing file of"), HasSubstr("\"nbd\"")));
  Overlay("b.qcow2", "base.img", "-F vmdk");
  EXPECT_THAT(OpenError("b.qcow2"), HasSubstr("format \"vmdk\""));
  Overlay("c.qcow2", "none.img");
  EXPECT_THAT(OpenError("c.qcow2"),
              AllOf(HasSubstr("none.img"), HasSubstr("No such file")));
  Overlay("d.qcow2", "base.img", "-F qcow2");
  EXPECT_THAT(OpenError("d.qcow2"),
              AllOf(HasSubstr("base.img\": "), HasSubstr("qcow2")));
}

TEST_F(ChainTest, ProbesOnlyByMagicAndSaysSo) {
  Overlay("a.qcow2", "base.img");
  Overlay("b.qcow2", "a.qcow2", "-F qcow2");
  ForgetFormat("b.qcow2");
  EXPECT_TRUE(graph_.Open(Node(folder_ / "b.qcow2")).ok());
  EXPECT_THAT(graph_.warnings(),
              ElementsAre(AllOf(HasSubstr("b.qcow2\": the header does not"),
                                HasSubstr("-F qcow2 -b a.qcow2 /"))));
  ASSERT_TRUE(graph_.Close().ok());
  ForgetFormat("a.qcow2");
  EXPECT_THAT(OpenError("b.qcow2"),
              AllOf(HasSubstr("base.img\" has no magic"),
                    HasSubstr("rebase -u -F raw -b base.img /")));
  folder_.Write("base.img", "vhdxfile");
  EXPECT_THAT(OpenError("b.qcow2"), HasSubstr("its format is vhdx"));
}

TEST_F(ChainTest, ProposesCommandsThatRunNothingElse) {
  folder_.Write("$(x);`y`", std::string(65536, 'r'));
  Overlay("a.qcow2", "$(x);`y`");
  ForgetFormat("a.qcow2");
  EXPECT_THAT(OpenError("a.qcow2"), HasSubstr("-F raw -b '$(x);`y`' /"));
  std::filesystem::create_directory(folder_ / "it's");
  folder_.Write("it's/base.img", "");
  Overlay("b.qcow2", "it'\\''s/base.img");
  EXPECT_THAT(OpenError("b.qcow2"),
              HasSubstr(absl::StrCat("--allow-implicit=$'", folder_.path(),
                                     "/it\\'s' ")));
}

TEST_F(ChainTest, RefusesLoops) {
  Overlay("a.qcow2", "a.qcow2", "-F qcow2");
  EXPECT_THAT(OpenError("a.qcow2"), HasSubstr("the chain is a loop"));
  Overlay("b.qcow2", "d.qcow2", "-F qcow2");
  Overlay("c.qcow2", "b.qcow2", "-F qcow2");
  std::filesystem::create_hard_link(folder_ / "c.qcow2", folder_ / "d.qcow2");
  EXPECT_THAT(OpenError("c.qcow2"),
              AllOf(HasSubstr("d.qcow2\" is already in the chain"),
                    HasSubstr("backing file of \"")));
}

// Each image has an L1 table of 32 MiB, which is a hole.
TEST_F(ChainTest, RefusesChainsOfLargeTables) {
  std::string below = "base.img";
  for (const std::string name : {"0", "1", "2", "3", "4", "5", "6", "7"}) {
    Overlay(name, below,
            below == "base.img" ? "-F raw -o cluster_size=512"
                                : "-F qcow2 -o cluster_size=512");
    std::string image = ReadHostFile(folder_ / name);
    image.replace(24, 8, BigEndian(uint64_t{128} << 30, 8));  // size
    image.replace(36, 4, BigEndian(1 << 22, 4));              // l1_size
    image.replace(40, 8, BigEndian(1 << 20, 8));              // its offset
    folder_.Write(name, image);
    std::filesystem::resize_file(folder_ / name, 64 << 20);
    below = name;
  }
  EXPECT_TRUE(graph_.Open(Node(folder_ / "6")).ok());
  ASSERT_TRUE(graph_.Close().ok());
  EXPECT_THAT(OpenError("7"),
              AllOf(HasSubstr("/0\": the headers and L1 tables"),
                    HasSubstr("more than 256 MiB")));
}

TEST_F(ChainTest, SharesOneBoundForTheCachesOfADeepChain) {
  std::string below = "base.img";
  for (int i = 0; i < 32; ++i) {
    Shell(absl::StrCat("qemu-img create -q -u -f qcow2 -F ",
                       i == 0 ? "raw" : "qcow2", " -b ", below, " $D/", i,
                       " 1T"));
    below = absl::StrCat(i);
  }
  EXPECT_EQ(CacheBytes("7"), 32 << 20);
  ASSERT_TRUE(graph_.Close().ok());
  EXPECT_EQ(CacheBytes("31"), 8 << 20);
}

TEST_F(ChainTest, CopiesHaveTheCachesOfOneAmongThem) {
  Shell("qemu-img create -q -f qcow2 $D/base.qcow2 1T");
  Shell("qemu-img create -q -u -f qcow2 -F qcow2 -b base.qcow2 $D/top 1T");
  const auto cache_bytes = [](const bgfs::Node& node) {
    return static_cast<const qcow2::Qcow2&>(node.driver())
               .l2_cache()
               .capacity() *
           qcow2::L2Cache::kMaxSliceBytes;
  };
  graph_.context().copies = 2;
  graph_.context().named_copies = 4;
  for (const int64_t mib : {32, 4}) {
    const auto node = graph_.Open(
        absl::StrCat("qcow2 { file { filename: \"", folder_ / "top", "\" } ",
                     mib == 32 ? "" : "l2_cache_size: \"4194304\"", " }"));
    ASSERT_TRUE(node.ok()) << node.status();
    EXPECT_EQ(cache_bytes(**node), (mib << 20) / 2);
    EXPECT_EQ(cache_bytes((*node)->backing()->node()), (mib << 20) / 4);
    ASSERT_TRUE(graph_.Close().ok());
  }
}

TEST_F(ChainTest, SharesWhatAnotherChainHasOpen) {
  Overlay("mid.qcow2", "base.img");
  std::filesystem::create_symlink("mid.qcow2", folder_ / "link");
  Overlay("a.qcow2", "mid.qcow2", "-F qcow2");
  Overlay("b.qcow2", folder_ / "link", "-F qcow2");
  Overlay("c.qcow2", "base.img");
  const auto a = graph_.Open(Node(folder_ / "a.qcow2"));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_THAT(graph_.graph().nodes(), SizeIs(6));
  const auto b = graph_.Open(Node(folder_ / "b.qcow2"));
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_THAT(graph_.graph().nodes(), SizeIs(8));
  const bgfs::Node& mid = (*a)->backing()->node();
  EXPECT_EQ(&(*b)->backing()->node(), &mid);
  const auto c = graph_.Open(Node(folder_ / "c.qcow2"));
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_THAT(graph_.graph().nodes(), SizeIs(10));
  EXPECT_EQ(&(*c)->backing()->node(), &mid.backing()->node());
  auto disk = graph_.Attach(*b, kConsistentRead);
  ASSERT_TRUE(disk.ok());
  EXPECT_EQ((*disk)->Read(0, 2), "rr");
}

TEST_F(ChainTest, SharesNothingThatIsOpenInAnotherWay) {
  Overlay("a.qcow2", "base.img");
  Overlay("b.qcow2", "base.img");
  const auto opened_anew = [this](const std::string& more) {
    const size_t before = graph_.graph().nodes().size();
    const auto node = graph_.Open(more);
    EXPECT_TRUE(node.ok()) << node.status();
    return graph_.graph().nodes().size() - before;
  };
  // The file is the window's, too.
  EXPECT_EQ(opened_anew(absl::StrCat("raw { offset: \"4096\" file { filename: "
                                     "\"",
                                     folder_ / "base.img", "\" } }")),
            2U);
  EXPECT_EQ(opened_anew(Node(folder_ / "a.qcow2")), 3U);
  EXPECT_EQ(opened_anew(Node(folder_ / "b.qcow2")), 2U);
  EXPECT_EQ(opened_anew(Node(folder_ / "b.qcow2", "force_share: true")), 4U);
  EXPECT_EQ(opened_anew(Node(folder_ / "b.qcow2", "cache { no_flush: true }")),
            4U);
  EXPECT_EQ(opened_anew(absl::StrCat("qcow2 { share_base: false file { "
                                     "filename: \"",
                                     folder_ / "b.qcow2", "\" } }")),
            4U);
}

// One file, but the name in it leads elsewhere.
TEST_F(ChainTest, SharesNoImageThatStandsOnAnother) {
  std::filesystem::create_directory(folder_ / "sub");
  folder_.Write("sub/base.img", std::string(65536, 's'));
  Overlay("mid.qcow2", "base.img");
  std::filesystem::create_hard_link(folder_ / "mid.qcow2",
                                    folder_ / "sub/mid.qcow2");
  Overlay("a.qcow2", "mid.qcow2", "-F qcow2");
  Overlay("sub/b.qcow2", "mid.qcow2", "-F qcow2");
  const auto a = graph_.Disk(Node(folder_ / "a.qcow2"), kConsistentRead);
  const auto b = graph_.Disk(Node(folder_ / "sub/b.qcow2"), kConsistentRead);
  EXPECT_EQ(a->Read(0, 2), "rr");
  EXPECT_EQ(b->Read(0, 2), "ss");
  EXPECT_THAT(graph_.graph().nodes(), SizeIs(11));
}

TEST_F(ChainTest, FindsTheFilesThatHeadersName) {
  Overlay("mid.qcow2", "base.img");
  Overlay("a.qcow2", "mid.qcow2", "-F qcow2");
  const auto names = [this](const std::vector<std::string>& texts) {
    std::vector<proto::Node> specs;
    specs.reserve(texts.size());
    for (const std::string& text : texts) specs.push_back(ParseNode(text));
    const auto found = BlockOn(
        graph_.loop(), FindHostFiles(&graph_.loop(), specs, OpenContext()));
    EXPECT_TRUE(found.ok()) << found.status();
    std::vector<std::string> names;
    names.reserve(found->size());
    for (const FileIdentity& file : *found) names.push_back(file.name);
    return names;
  };
  const std::string file = absl::StrCat("node_name: \"f\" file { filename: \"",
                                        folder_ / "a.qcow2", "\" }");
  EXPECT_THAT(names({file}), ElementsAre(folder_ / "a.qcow2"));
  EXPECT_THAT(names({file, "qcow2 { file_node: \"f\" }"}),
              ElementsAre(folder_ / "mid.qcow2", folder_ / "base.img"));
  EXPECT_THAT(names({file, "qcow2 { file_node: \"f\" backing: \"x\" }"}),
              IsEmpty());
  // Filters hold up nobody who only looks.
  EXPECT_THAT(
      names({file,
             "node_name: \"t\" throttle { file_node: \"f\" group: \"g\" }",
             "node_name: \"c\" copy_on_read { file_node: \"t\" }",
             ("node_name: \"d\" blkdebug { file_node: \"c\" "
              "suspend { tag: \"A\" } }"),
             "qcow2 { file_node: \"d\" }"}),
      ElementsAre(folder_ / "mid.qcow2", folder_ / "base.img"));
  std::filesystem::remove(folder_ / "base.img");
  EXPECT_FALSE(BlockOn(graph_.loop(),
                       FindHostFiles(&graph_.loop(),
                                     {ParseNode(Node(folder_ / "a.qcow2"))},
                                     OpenContext()))
                   .ok());
}

TEST_F(ChainTest, AWarmReadSkipsTheLayersThatHaveNothing) {
  Overlay("0", "base.img");
  for (int i = 1; i < 6; ++i) {
    Overlay(absl::StrCat(i), absl::StrCat(i - 1), "-F qcow2");
  }
  Shell("qemu-io -f qcow2 -c 'write -q -P 97 512k 64k' $D/2");
  auto disk = graph_.Disk(Node(folder_ / "5"), kConsistentRead);
  const bgfs::Node* layer =
      &disk->backend().node().backing()->node().backing()->node();
  const auto reads = [&layer] { return layer->statistics().reads.operations; };
  const std::string expected =
      std::string(65536, 'r') + std::string(458752, '\0') +
      std::string(65536, 'a') + std::string(458752, '\0');
  EXPECT_EQ(disk->Read(0, 1 << 20), expected);
  EXPECT_EQ(reads(), 0);
  for (const int64_t at : {0, 65536, 524288, 589824}) {
    EXPECT_EQ(disk->Read(at, 4096), expected.substr(at, 4096));
  }
  EXPECT_EQ(reads(), 0);
}

// Else a disk that grows later shows it.
TEST_F(ChainTest, WhatIsCopiedPastTheEndOfTheDiskIsZeros) {
  constexpr size_t kCluster = 4096;
  constexpr size_t kInside = 40448 % kCluster;
  folder_.Write("long.img", std::string(1 << 20, 'r'));
  Shell(
      "qemu-img create -q -f qcow2 -o cluster_size=4k -F raw -b long.img "
      "$D/top "
      "40448");
  auto disk = graph_.Disk(Node(folder_ / "top", "read_only: false"));
  // The last one is copied with memory that the others have used.
  for (int64_t at = 0; at < 40448; at += kCluster) {
    EXPECT_EQ(disk->Write(at, std::string(512, at < 36864 ? 'x' : 'y')), 0);
  }
  disk.reset();
  ASSERT_TRUE(graph_.Close().ok());
  std::string image = ReadHostFile(folder_ / "top");
  const size_t at =
      image.find(std::string(512, 'y') + std::string(kInside - 512, 'r'));
  ASSERT_NE(at, std::string::npos);
  image.resize(std::max(image.size(), at + kCluster));
  EXPECT_EQ(image.substr(at + kInside, kCluster - kInside),
            std::string(kCluster - kInside, '\0'));
}

TEST_F(ChainTest, OpensDeepChainsUpToALimit) {
  rlimit files{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  if (files.rlim_cur < 1200) GTEST_SKIP() << "too few files may be open";
  Overlay("0000.qcow2", "xxxx.qcow2", "-F qcow2 -o cluster_size=512");
  const std::string image = ReadHostFile(folder_ / "0000.qcow2");
  for (int i = 1; i <= kMaxChainDepth; ++i) {
    folder_.Write(
        absl::StrFormat("%04d.qcow2", i),
        absl::StrReplaceAll(image, {{"xxxx", absl::StrFormat("%04d", i - 1)}}));
  }
  Shell("qemu-img create -q -f qcow2 -o cluster_size=512 $D/0000.qcow2 1M");
  Shell("qemu-io -f qcow2 -c 'write -q -P 97 5000 1000' $D/0000.qcow2");
  EXPECT_THAT(OpenError(absl::StrFormat("%04d.qcow2", kMaxChainDepth)),
              HasSubstr("deeper than 1024 images"));
  auto disk = graph_.Disk(
      Node(folder_ / absl::StrFormat("%04d.qcow2", kMaxChainDepth - 1)),
      kConsistentRead);
  EXPECT_EQ(disk->Read(5999, 2), std::string("a\0", 2));
}

}  // namespace
}  // namespace bgfs
