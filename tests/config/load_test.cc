#include "config/load.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Errors(absl::string_view text) {
  const Source source = LoadText(text, "c", "/folder");
  std::vector<std::string> lines;
  lines.reserve(source.errors.size());
  for (const Diagnostic& error : source.errors) {
    lines.push_back(Format(source.file, error));
  }
  return lines;
}

TEST(LoadTest, ReadsAGoodText) {
  const Source source = LoadText(
      "# a comment\nnodes { node_name: \"a\" raw { file { filename: \"x\" } } "
      "}",
      "c", "/folder");
  EXPECT_TRUE(source.parsed);
  EXPECT_THAT(source.errors, IsEmpty());
  ASSERT_EQ(source.config.nodes_size(), 1);
  EXPECT_EQ(source.config.nodes(0).raw().file().filename(), "x");
  EXPECT_EQ(source.file, "c");
  EXPECT_EQ(source.folder, "/folder");
}

TEST(LoadTest, AnEmptyTextIsAnEmptyConfiguration) {
  EXPECT_THAT(Errors(""), IsEmpty());
  EXPECT_THAT(Errors("# only this"), IsEmpty());
}

// A text with one mistake, and the one line about it.
struct Case {
  const char* text;
  const char* error;
};

class LoadMistakeTest : public ::testing::TestWithParam<Case> {};

TEST_P(LoadMistakeTest, IsToldWithItsPlace) {
  EXPECT_THAT(Errors(GetParam().text), ElementsAre(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, LoadMistakeTest,
    ::testing::Values(
        Case{"nodes {\n  nod_name: \"a\"\n}",
             "c:2:3: Node has no field \"nod_name\"; did you mean "
             "\"node_name\"?"},
        Case{"nodes { nod_name  # nod_name, a comment\n : \"a\" }",
             "c:1:21: Node has no field \"nod_name\"; did you mean "
             "\"node_name\"?"},
        Case{"nodes { raw { file { elephant: \"a\" } } }",
             "c:1:22: File has no field \"elephant\""},
        Case{"node { node_name: \"a\" }",
             "c:1:1: Config has no field \"node\"; did you mean \"nodes\"?"},
        Case{"exports { type { fuse {} } }",
             "c:1:11: Export has no field \"type\""},
        Case{"nodes { node-name: \"a\" }",
             "c:1:9: no field \"node-name\"; did you mean \"node_name\"?"},
        Case{"nodes { node_name: \"a\" node_name: \"b\" }",
             "c:1:24: node_name is given twice"},
        Case{"nodes { raw {} qcow2 {} }",
             "c:1:16: qcow2 beside raw: only one can be given"},
        Case{"nodes { [foo.bar] { a: 1 } }",
             "c:1:19: Ignoring extension \"foo.bar\" which is not defined or "
             "is not an extension of \"bgfs.proto.Node\""}));

INSTANTIATE_TEST_SUITE_P(
    Values, LoadMistakeTest,
    ::testing::Values(
        Case{"nodes { discard: UNMPA }",
             "c:1:18: discard is one of IGNORE, UNMAP, not \"UNMPA\""},
        Case{"nodes { discard: unmap }",
             "c:1:18: discard is one of IGNORE, UNMAP, not \"unmap\"; did you "
             "mean \"UNMAP\"?"},
        Case{"nodes { discard: 7 }",
             "c:1:18: discard is one of IGNORE, UNMAP, not \"7\""},
        Case{"implicit_files: SAMEDIR",
             "c:1:17: implicit_files is one of SAME_DIR, ANY, DENY, not "
             "\"SAMEDIR\"; did you mean \"SAME_DIR\"?"},
        Case{
            "nodes { raw { file { locking: on } } }",
            "c:1:31: locking is one of AUTO, ON, OFF, not \"on\"; did you mean "
            "\"ON\"?"},
        Case{"nodes { read_only: yes }",
             "c:1:20: read_only is true or false, not \"yes\""},
        Case{"nodes { memory { size: 1048576 } }",
             "c:1:24: size is a string: write \"1048576\""},
        Case{"nodes { raw { file: \"a\" } }",
             "c:1:21: file is written inline, as in file { filename: "
             "\"disk.img\" }; to name a node use file_node"},
        Case{"nodes { qcow2 { backing { raw {} } } }",
             "c:1:25: backing names a node; to write it inline use "
             "backing_inline"},
        Case{"exports { fuse { uid: 99999999999 } }",
             "c:1:23: Integer out of range (99999999999)"},
        Case{"nodes { read_only true }",
             "c:1:19: Expected \":\", found \"true\""}));

INSTANTIATE_TEST_SUITE_P(
    Text, LoadMistakeTest,
    ::testing::Values(
        Case{
            "nodes {\n",
            "c:2:1: the text ends too early: a \"{\" is not closed, or a value "
            "is missing"},
        Case{"nodes { node_name:",
             "c:1:19: the text ends too early: a \"{\" is not closed, or a "
             "value is missing"},
        Case{"nodes {} }", "c:1:10: Expected identifier, got: }"},
        Case{"nodes { node_name: \"a\nb\" }",
             "c:1:22: String literals cannot cross line boundaries"},
        Case{"nodes { node_name: \"a\x1b[31m\" nod: 1 }",
             "c:1:29: Node has no field \"nod\""},
        Case{"\x01", "c:1:1: Invalid control characters encountered in text"},
        Case{"\xef\xbb\xbf@",
             "c:1:1: only text in quotes may have characters beyond ASCII"}));

TEST(LoadTest, TabsAndWideCharactersCountAsBytes) {
  EXPECT_THAT(Errors("nodes {\n\t\traw\t{\tfil: 1 } }"),
              ElementsAre("c:2:9: Raw has no field \"fil\"; did you mean "
                          "\"file\"?"));
  EXPECT_THAT(Errors("nodes { node_name: \"äö\t\" fil: 1 }"),
              ElementsAre("c:1:28: Node has no field \"fil\"; did you mean "
                          "\"file\"?"));
}

TEST(LoadTest, EveryUnknownFieldIsTold) {
  const Source source = LoadText(
      "nodes { nodename: \"a\" raw { fil { x: [1, { y: 2 }] } } }\n"
      "export { id: \"a\" }\n"
      "exports { id: \"b\" }\n",
      "c", "/folder");
  EXPECT_TRUE(source.parsed);
  EXPECT_EQ(source.config.exports_size(), 1);
  ASSERT_EQ(source.errors.size(), 3);
  EXPECT_EQ(source.errors[0].at, (Position{1, 9}));
  EXPECT_EQ(source.errors[1].at, (Position{1, 29}));
  EXPECT_EQ(source.errors[2].at, (Position{2, 1}));
}

TEST(LoadTest, NestingIsBounded) {
  for (const char* opening :
       {"nodes { qcow2 { backing_inline { ", "unknown { ", "x: [{ y: "}) {
    std::string text = absl::StrCat("nodes { qcow2 { backing_inline { ");
    for (int i = 0; i < 20000; ++i) absl::StrAppend(&text, opening);
    const Source source = LoadText(text, "c", "/folder");
    EXPECT_FALSE(source.parsed) << opening;
    EXPECT_FALSE(source.errors.empty()) << opening;
  }
  std::string chain;
  for (int i = 0; i < 99; ++i) chain += "qcow2 { backing_inline { ";
  EXPECT_THAT(Errors("nodes { " + chain + std::string(198, '}') + "}"),
              IsEmpty());
  chain += "qcow2 { backing_inline { ";
  EXPECT_THAT(Errors("nodes { " + chain + std::string(200, '}') + "}"),
              ElementsAre(::testing::EndsWith(
                  ": nested more than 200 levels deep: name the nodes "
                  "instead")));
}

TEST(LoadTest, LengthIsBounded) {
  const std::string space(kMaxConfigBytes, ' ');
  EXPECT_THAT(Errors(space), IsEmpty());
  EXPECT_THAT(Errors(space + " "),
              ElementsAre("c: longer than 1048576 bytes, the most that a "
                          "configuration may have"));
}

class LoadFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/bgfs_load_test_XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    folder_ = path;
  }
  void TearDown() override {
    unlink((folder_ + "/c.textproto").c_str());
    rmdir(folder_.c_str());
  }
  void Write(const std::string& text) {
    std::ofstream(folder_ + "/c.textproto") << text;
  }

  std::string folder_;
};

TEST_F(LoadFileTest, KnowsItsFolder) {
  Write("nodes { node_name: \"a\" }");
  const Source source = LoadFile(folder_ + "/c.textproto");
  EXPECT_THAT(source.errors, IsEmpty());
  EXPECT_EQ(source.folder, folder_);
  EXPECT_EQ(source.file, folder_ + "/c.textproto");
  EXPECT_EQ(source.config.nodes(0).node_name(), "a");
}

TEST_F(LoadFileTest, SaysWhyItCannotRead) {
  const Source missing = LoadFile(folder_ + "/none.textproto");
  ASSERT_EQ(missing.errors.size(), 1);
  EXPECT_FALSE(missing.parsed);
  EXPECT_EQ(Format(missing.file, missing.errors[0]),
            folder_ +
                "/none.textproto: cannot read the configuration: No such file "
                "or directory");
  const Source folder = LoadFile(folder_);
  ASSERT_EQ(folder.errors.size(), 1);
  EXPECT_EQ(folder.errors[0].message,
            "cannot read the configuration: Is a directory");
}

TEST_F(LoadFileTest, DoesNotReadEndlessly) {
  const Source source = LoadFile("/dev/zero");
  ASSERT_EQ(source.errors.size(), 1);
  EXPECT_THAT(source.errors[0].message, ::testing::StartsWith("longer than"));
}

}  // namespace
}  // namespace bgfs::config
