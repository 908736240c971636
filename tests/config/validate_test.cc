// Each rule by the text that breaks it and the exact lines that say so. A text
// that breaks one rule gives one line: nothing is told twice.
#include "config/validate.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/load.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/config/check_text.h"

namespace bgfs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(ValidateTest, AcceptsWhatIsRight) {
  EXPECT_THAT(Mistakes(R"(
    nodes { node_name: "base" read_only: true raw { file { filename: "base.img" } } }
    nodes { node_name: "top" qcow2 { file { filename: "top.qcow2" } backing: "base" } }
    nodes { node_name: "scratch" discard: UNMAP raw { file { filename: "scratch.img" cache { direct: true } } } }
    exports { id: "disk" node: "top" fuse {} }
    exports { id: "scratch" node: "scratch" writable: true fuse { resizable: true } }
  )"),
              IsEmpty());
  EXPECT_THAT(Mistakes(R"(
    nodes {
      node_name: "A-1._z" detect_zeroes: OFF force_share: true
      qcow2 { file_node: "f" l2_cache_size: "32M" backing_inline { null {} } }
    }
    nodes { node_name: "f" cache { no_flush: true }
            file { filename: "x" locking: OFF cache { direct: true } } }
    nodes { node_name: "part" raw { file_node: "m" offset: "1M" size: "1G" } }
    nodes { node_name: "m" memory { size: "2G" } read_only: false }
    nodes { node_name: "unused" null { size: "1T" } detect_zeroes: ON
            write_threshold: "900G" }
    nodes { node_name: "z" null {} detect_zeroes: UNMAP discard: UNMAP }
    exports { id: "a disk.img" node: "A-1._z" writethrough: false
              fuse { mountpoint: "x" mode: 0640 uid: 1 gid: 2
                     allow_other: true } }
    exports { id: "p" node: "part" writable: true writethrough: true fuse {} }
    exports { id: "q" node: "part" writable: true fuse {} }
    implicit_files: ANY
    allow_implicit: "sub" allow_implicit: "/images"
  )"),
              IsEmpty());
  EXPECT_THAT(Mistakes(""), IsEmpty());
}

struct Case {
  const char* text;
  std::vector<std::string> mistakes;
};

class ValidateTableTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidateTableTest, SaysExactly) {
  EXPECT_THAT(Mistakes(GetParam().text), ElementsAreArray(GetParam().mistakes))
      << GetParam().text;
}

INSTANTIATE_TEST_SUITE_P(
    NodeNames, ValidateTableTest,
    ::testing::Values(
        Case{"nodes { null {} }", {"c:1:1: a node needs a node_name"}},
        Case{"nodes { node_name: \"\" null {} }",
             {"c:1:9: node name \"\" must be a letter and then letters, "
              "digits, '-', '.' or '_'"}},
        Case{"nodes { node_name: \"#block1\" null {} }",
             {"c:1:9: node name \"#block1\" must be a letter and then letters, "
              "digits, '-', '.' or '_'"}},
        Case{"nodes { node_name: \"a/b\" null {} }",
             {"c:1:9: node name \"a/b\" must be a letter and then letters, "
              "digits, '-', '.' or '_'"}},
        Case{"nodes { node_name: \"a\\n\" null {} }",
             {"c:1:9: node name \"a\\n\" must be a letter and then letters, "
              "digits, '-', '.' or '_'"}},
        Case{"nodes { node_name: \"a234567890123456789012345678901\" null {} }",
             {}},
        Case{"nodes { node_name: \"a2345678901234567890123456789012\" null {} "
             "}",
             {"c:1:9: node name \"a2345678901234567890123456789012\" is 32 "
              "bytes long; 31 is the most"}},
        Case{"nodes { node_name: \"a\" null {} }\n"
             "nodes { node_name: \"b\" null {} }\n"
             "nodes { node_name: \"a\" null {} }\n"
             "nodes { null {} node_name: \"a\" }",
             {"c:3:9: node name \"a\" is used twice; first on line 1",
              "c:4:17: node name \"a\" is used twice; first on line 1"}},
        Case{"nodes { node_name: \"a\" qcow2 { file { filename: \"x\" }\n"
             "  backing_inline { node_name: \"a\" null {} } } }",
             {"c:2:20: node name \"a\" is used twice; first on line 1"}}));

INSTANTIATE_TEST_SUITE_P(
    Drivers, ValidateTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"a\" }",
             {"c:1:1: node \"a\" has no driver; give it one of file, raw, "
              "qcow2, null, memory, throttle, copy_on_read, "
              "blkdebug"}},
        Case{"nodes { node_name: \"a\" qcow2 { file { filename: \"x\" }\n"
             "  backing_inline {} } }",
             {"c:2:3: the backing of node \"a\" has no driver; give it one of "
              "file, raw, qcow2, null, memory, throttle, copy_on_read, "
              "blkdebug"}},
        Case{"nodes { node_name: \"a\" detect_zeroes: UNMAP null {} }",
             {"c:1:24: node \"a\" has detect_zeroes: UNMAP without discard: "
              "UNMAP; add that, or use ON"}},
        Case{"nodes { node_name: \"a\" write_threshold: \"1X\" null {} }",
             {"c:1:24: node \"a\": write_threshold \"1X\" is not a size: write "
              "bytes, or a number with K, M, G, T, P or E, as in \"64K\""}},
        Case{"nodes { node_name: \"a\" file {} }",
             {"c:1:24: node \"a\" needs a filename"}},
        Case{"nodes { node_name: \"a\" raw { file {} } }",
             {"c:1:30: the file of node \"a\" needs a filename"}},
        Case{"nodes { node_name: \"a\" file { filename: \"\" } }",
             {"c:1:31: filename is empty"}},
        Case{"nodes { node_name: \"a\" file { filename: \"x\\0y\" } }",
             {"c:1:31: filename has a zero byte in it"}},
        Case{"nodes { node_name: \"a\" cache { direct: true }\n"
             "  file { filename: \"x\" cache { direct: true } } }",
             {"c:2:24: node \"a\" has this cache setting twice; keep the one "
              "of the node"}},
        Case{"nodes { node_name: \"a\" raw {} }",
             {"c:1:24: node \"a\" needs a file or file_node"}},
        Case{"nodes { node_name: \"a\" qcow2 { backing_inline { null {} } } }",
             {"c:1:24: node \"a\" needs a file or file_node"}},
        Case{"nodes { node_name: \"a\" qcow2 { file { filename: \"x\" }\n"
             "  data_file: \"a\" } }",
             {"c:2:3: node \"a\": external data files are not in this "
              "version"}}));

INSTANTIATE_TEST_SUITE_P(
    Sizes, ValidateTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"a\" memory {} }",
             {"c:1:24: node \"a\" needs a size"}},
        Case{"nodes { node_name: \"a\" memory { size: \"1X\" } }",
             {"c:1:33: node \"a\": size \"1X\" is not a size: write bytes, or "
              "a number with K, M, G, T, P or E, as in \"64K\""}},
        Case{"nodes { node_name: \"a\" null { size: \"8E\" } }",
             {"c:1:31: node \"a\": size \"8E\" is too large: sizes end below "
              "\"8E\""}},
        Case{"nodes { node_name: \"a\" raw { file { filename: \"x\" }\n"
             "  offset: \"-1\" size: \"\" } }",
             {"c:2:3: node \"a\": offset \"-1\" is not a size: write bytes, or "
              "a number with K, M, G, T, P or E, as in \"64K\"",
              "c:2:16: node \"a\": size \"\" is not a size: write bytes, or a "
              "number with K, M, G, T, P or E, as in \"64K\""}},
        Case{"nodes { node_name: \"a\" raw { file { filename: \"x\" }\n"
             "  offset: \"4E\" size: \"4E\" } }",
             {"c:2:16: node \"a\": offset and size together exceed \"8E\""}},
        Case{"nodes { node_name: \"a\" qcow2 { file { filename: \"x\" }\n"
             "  l2_cache_size: \"much\" } }",
             {"c:2:3: node \"a\": l2_cache_size \"much\" is not a size: write "
              "bytes, or a number with K, M, G, T, P or E, as in \"64K\""}}));

INSTANTIATE_TEST_SUITE_P(
    References, ValidateTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"base\" null {} }\n"
             "nodes { node_name: \"top\" qcow2 {\n"
             "  file { filename: \"x\" } backing: \"bas\" } }",
             {"c:3:26: node \"top\": no node is called \"bas\"; did you mean "
              "\"base\"?"}},
        Case{"nodes { node_name: \"a\" raw { file_node: \"elsewhere\" } }",
             {"c:1:30: node \"a\": no node is called \"elsewhere\""}},
        Case{"nodes { node_name: \"a\" qcow2 { file_node: \"\" } }",
             {"c:1:32: node \"a\": no node is called \"\""}},
        Case{"nodes { node_name: \"disk\" null {} }\n"
             "exports { id: \"e\" node: \"dsk\" fuse {} }",
             {"c:2:19: export \"e\": no node is called \"dsk\"; did you mean "
              "\"disk\"?"}},
        Case{"nodes { node_name: \"a\" raw { file_node: \"a\" } }",
             {"c:1:1: nodes stand on each other in a circle: node \"a\" -> "
              "node \"a\""}},
        Case{"nodes { node_name: \"a\" raw { file_node: \"b\" } }\n"
             "nodes { node_name: \"b\" qcow2 { file { filename: \"x\" }\n"
             "  backing_inline { raw { file_node: \"a\" } } } }",
             {"c:1:1: nodes stand on each other in a circle: node \"a\" -> "
              "node \"b\" -> the backing of node \"b\" -> node \"a\""}},
        Case{"nodes { node_name: \"a\" qcow2 { file_node: \"b\" backing: \"c\" "
             "} }\n"
             "nodes { node_name: \"b\" raw { file_node: \"a\" } }\n"
             "nodes { node_name: \"c\" raw { file_node: \"a\" } }",
             {"c:1:1: nodes stand on each other in a circle: node \"a\" -> "
              "node \"b\" -> node \"a\"",
              "c:1:1: nodes stand on each other in a circle: node \"a\" -> "
              "node \"c\" -> node \"a\""}}));

INSTANTIATE_TEST_SUITE_P(
    Exports, ValidateTableTest,
    ::testing::Values(
        Case{"exports {}",
             {"c:1:1: an export needs an id",
              "c:1:1: an export without an id has no type; give it fuse {}",
              "c:1:1: an export without an id needs a node"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" }",
             {"c:2:1: export \"e\" has no type; give it fuse {}"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" fuse {} }\n"
             "exports { node: \"n\" id: \"e\" fuse {} }",
             {"c:3:21: export id \"e\" is used twice; first on line 2"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" writethrough: true fuse {} }",
             {"c:2:29: export \"e\" is writethrough but not writable; add "
              "writable: true"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" fuse { resizable: true } }",
             {"c:2:36: export \"e\" is resizable but not writable; add "
              "writable: true"}},
        Case{"nodes { node_name: \"n\" raw { file { filename: \"x\" } size: "
             "\"1M\" } }\n"
             "nodes { node_name: \"m\" raw { file_node: \"n\" } }\n"
             "exports { id: \"e\" node: \"m\" writable: true\n"
             "  fuse { resizable: true } }",
             {"c:4:10: export \"e\" is resizable, but node \"n\" has a fixed "
              "size"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" fuse { mode: 644 } }",
             {"c:2:36: export \"e\": mode 01204 is more than the permission "
              "bits 0777; an octal number begins with 0"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" fuse { mountpoint: \"\" } }",
             {"c:2:36: export \"e\": mountpoint is empty"}},
        Case{"nodes { node_name: \"n\" null {} }\n"
             "exports { id: \"e\" node: \"n\" fuse { mountpoint: \"a//x\" } }\n"
             "exports { id: \"f\" node: \"n\" fuse {\n"
             "  mountpoint: \"/folder/b/../a/x\" } }",
             {"c:4:3: mountpoint \"/folder/b/../a/x\" is used twice; first on "
              "line 2"}}));

INSTANTIATE_TEST_SUITE_P(
    Writing, ValidateTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"n\" null {} read_only: true }\n"
             "exports { id: \"e\" node: \"n\" writable: true fuse {} }",
             {"c:2:29: export \"e\" is writable, but node \"n\" is "
              "read_only"}},
        Case{"nodes { node_name: \"n\" raw { file_node: \"f\" } }\n"
             "nodes { node_name: \"f\" null {} read_only: true }\n"
             "exports { id: \"e\" node: \"n\" writable: true fuse {} }",
             {"c:3:29: export \"e\" is writable, but node \"f\" is "
              "read_only"}},
        Case{"nodes { node_name: \"n\" read_only: false\n"
             "  raw { file_node: \"f\" } }\n"
             "nodes { node_name: \"f\" read_only: true null {} }",
             {"c:1:24: node \"n\" is for writing, but node \"f\" is "
              "read_only"}},
        Case{"nodes { node_name: \"b\" raw { file { filename: \"b\" } } }\n"
             "nodes { node_name: \"t\" qcow2 { file { filename: \"t\" }\n"
             "  backing: \"b\" } }\n"
             "exports { id: \"e\" node: \"b\" writable: true fuse {} }",
             {"c:4:29: export \"e\" writes to node \"b\", which must not "
              "change: node \"t\" rests on it"}},
        Case{"nodes { node_name: \"f\" file { filename: \"t\" } }\n"
             "nodes { node_name: \"r\" raw { file_node: \"f\" } }\n"
             "nodes { node_name: \"t\" qcow2 { file_node: \"f\" } }\n"
             "exports { id: \"e\" node: \"r\" writable: true fuse {} }",
             {"c:4:29: export \"e\" writes to node \"f\", which must not "
              "change: node \"t\" rests on it"}},
        Case{"nodes { node_name: \"a\" raw { file { filename: \"x\" } } }\n"
             "nodes { node_name: \"b\" raw { file {\n"
             "  filename: \"../folder/./x\" } } }\n"
             "exports { id: \"e\" node: \"a\" writable: true fuse {} }\n"
             "exports { id: \"f\" node: \"b\" writable: true fuse {} }",
             {"c:3:3: file \"/folder/../folder/./x\" is opened for writing "
              "twice; "
              "first on line 1"}},
        Case{"nodes { node_name: \"a\" raw { file { filename: \"x\" } } }\n"
             "nodes { node_name: \"b\" raw { file { filename: \"x\" } } }\n"
             "exports { id: \"e\" node: \"a\" writable: true fuse {} }\n"
             "exports { id: \"f\" node: \"b\" fuse {} }",
             {}},
        Case{"nodes { node_name: \"a\" force_share: true\n"
             "  raw { file { filename: \"x\" } } }\n"
             "exports { id: \"e\" node: \"a\" writable: true fuse {} }",
             {"c:1:24: node \"a\" has force_share, which is for reading only, "
              "and is opened for writing"}},
        Case{"nodes { node_name: \"a\" force_share: true\n"
             "  qcow2 { file { filename: \"x\" }\n"
             "    backing_inline { read_only: false null {} } } }",
             {"c:3:5: the backing of node \"a\" has force_share, which is for "
              "reading only, and is opened for writing"}}));

INSTANTIATE_TEST_SUITE_P(
    ImplicitFiles, ValidateTableTest,
    ::testing::Values(
        Case{"allow_implicit: \"\"", {"c:1:1: allow_implicit is empty"}},
        Case{"allow_implicit: \"a\"\nallow_implicit: \"b\\0\"",
             {"c:2:1: allow_implicit has a zero byte in it"}},
        Case{"implicit_files: DENY\nallow_implicit: \"a\"",
             {"c:2:1: allow_implicit beside implicit_files: DENY, which allows "
              "none; remove one of them"}}));

TEST(ValidateTest, AnExportIdIsAFileName) {
  const auto mistakes = [](absl::string_view id) {
    return Mistakes(absl::StrCat("nodes { node_name: \"n\" null {} }\n",
                                 "exports { id: \"", id,
                                 "\" node: \"n\" fuse {} }"));
  };
  for (const char* id : {"", ".", "..", "a/b", "a\\n", "a\\x00"}) {
    EXPECT_THAT(mistakes(id),
                ElementsAre(absl::StrCat(
                    "c:2:11: export id \"", id,
                    "\" cannot be a file name: no '/', no control character, "
                    "not empty, \".\" or \"..\"")));
  }
  EXPECT_THAT(mistakes("..."), IsEmpty());
  EXPECT_THAT(mistakes("-a b#ä"), IsEmpty());
  EXPECT_THAT(mistakes(std::string(255, 'x')), IsEmpty());
  EXPECT_THAT(
      mistakes(std::string(256, 'x')),
      ElementsAre(::testing::EndsWith("is 256 bytes long; 255 is the most")));
}

TEST(ValidateTest, EveryMistakeAtOnce) {
  EXPECT_THAT(
      Mistakes(R"(exports { id: "e" node: "topp" writable: true fuse {} }
exports { id: "e" node: "top" writable: true }
nodes { node_name: "top" read_only: true qcow2 { file { filename: "t" } backing: "base" } }
nodes { node_name: "base" raw { file { filename: "b" } offset: "1Z" } }
nodes { node_name: "base" null {} detect_zeroes: UNMAP }
)"),
      ElementsAre(
          "c:1:19: export \"e\": no node is called \"topp\"; did you mean "
          "\"top\"?",
          "c:2:1: export \"e\" has no type; give it fuse {}",
          "c:2:11: export id \"e\" is used twice; first on line 1",
          "c:2:31: export \"e\" is writable, but node \"top\" is read_only",
          "c:4:56: node \"base\": offset \"1Z\" is not a size: write bytes, or "
          "a number with K, M, G, T, P or E, as in \"64K\"",
          "c:5:9: node name \"base\" is used twice; first on line 4",
          "c:5:35: node \"base\" has detect_zeroes: UNMAP without discard: "
          "UNMAP; add that, or use ON"));
}

TEST(ValidateTest, AnUnknownFieldIsNotAlsoMissing) {
  EXPECT_THAT(Mistakes("nodes { nodename: \"a\" null {} }\n"
                       "exports { id: \"e\" node: \"a\" fuse {} }\n"
                       "exports { id: \"e\" nod: \"a\" fuse {} }"),
              ElementsAre("c:1:9: Node has no field \"nodename\"; did you mean "
                          "\"node_name\"?",
                          "c:3:11: export id \"e\" is used twice; first on "
                          "line 2",
                          "c:3:19: Export has no field \"nod\"; did you mean "
                          "\"node\"?"));
}

TEST(ValidateTest, ASyntaxErrorStandsAlone) {
  EXPECT_THAT(Mistakes("nodes { null {} }\nnodes @"), SizeIs(1));
}

TEST(ValidateTest, ListsInBracketsHavePlaces) {
  EXPECT_THAT(
      Mistakes("nodes: [\n"
               "  { node_name: \"a\" },\n"
               "  { node_name: \"a\" null {} },\n"
               "  {}\n"
               "]\n"
               "nodes { node_name: \"b\" raw {} }\n"
               "allow_implicit: [\"a\",\n\"\"]"),
      ElementsAre(
          "c:1:1: a node needs a node_name",
          "c:1:1: a node without a name has no driver; give it "
          "one of file, raw, qcow2, null, memory, throttle, copy_on_read, "
          "blkdebug",
          "c:2:5: node \"a\" has no driver; give it one of "
          "file, raw, qcow2, null, memory, throttle, copy_on_read, "
          "blkdebug",
          "c:3:5: node name \"a\" is used twice; first on line "
          "2",
          "c:6:24: node \"b\" needs a file or file_node",
          "c:7:1: allow_implicit is empty"));
}

TEST(ValidateTest, WithoutATextThereAreNoPlaces) {
  proto::Config config;
  config.add_nodes()->set_node_name("a");
  config.add_nodes()->set_node_name("a");
  config.mutable_nodes(0)->mutable_raw()->set_offset("x");
  config.mutable_nodes(1)->mutable_null();
  std::vector<std::string> lines;
  for (const Diagnostic& mistake : Validate(FromMessage(config, "/"))) {
    lines.push_back(Format("", mistake));
  }
  EXPECT_THAT(lines,
              ElementsAre("node \"a\" needs a file or file_node",
                          "node \"a\": offset \"x\" is not a size: write "
                          "bytes, or a number with K, M, G, T, P or E, as in "
                          "\"64K\"",
                          "node name \"a\" is used twice"));
}

TEST(ValidateTest, ABaseOfItsOwnMustNotBeWritten) {
  const std::string base =
      "nodes { node_name: \"base\" read_only: false null {} }\n";
  const std::string top =
      "nodes { node_name: \"a\" qcow2 { file { filename: \"a\" }\n"
      "backing_inline { raw { file_node: \"base\" } } share_base: false } }";
  EXPECT_THAT(Mistakes(base + top),
              ElementsAre("c:3:46: node \"a\" has share_base: false, but node "
                          "\"base\" below it is opened for writing; make that "
                          "read_only"));
}

// Each stands on all that follow.
TEST(ValidateTest, BasesAreCopiedWithinABound) {
  std::string text = "nodes { node_name: \"n150\" null {} }\n";
  for (int i = 0; i < 150; ++i) {
    absl::StrAppend(&text, "nodes { node_name: \"n", i,
                    "\" qcow2 { share_base: false file { filename: \"f", i,
                    "\" } backing: \"n", i + 1, "\" } }\n");
  }
  EXPECT_THAT(Mistakes(text),
              ElementsAre("c:40:34: share_base: false makes more than 10000 "
                          "copies of nodes; let some overlays share their "
                          "base"));
}

// One export with passthrough over a writable raw node "disk".
std::string PassedThrough(absl::string_view node, absl::string_view in_export,
                          absl::string_view in_fuse,
                          absl::string_view more = "") {
  return absl::StrCat("nodes { node_name: \"disk\" ", node, " }\n",
                      "exports { id: \"x\" node: \"disk\" ", in_export,
                      "\nfuse { passthrough: true ", in_fuse, " } }\n", more);
}

constexpr char kDisk[] = R"(raw { file { filename: "a" } })";
constexpr char kWrites[] = "writable: true";
constexpr char kResizes[] = "resizable: true";

TEST(PassthroughTest, IsForAFileAsItIs) {
  EXPECT_THAT(Mistakes(PassedThrough(kDisk, kWrites, kResizes)), IsEmpty());
  EXPECT_THAT(Mistakes(PassedThrough(kDisk, "", "")), IsEmpty());
  EXPECT_THAT(Mistakes(PassedThrough("discard: UNMAP file { filename: \"a\" "
                                     "cache { no_flush: true } }",
                                     kWrites, kResizes)),
              IsEmpty());
  for (const char* node : {"memory { size: \"1M\" }", "null {}",
                           "qcow2 { file { filename: \"a\" } }"}) {
    EXPECT_THAT(Mistakes(PassedThrough(node, "", "")),
                ElementsAre("c:3:8: export \"x\" has passthrough, but node "
                            "\"disk\" is not a file as it is; drop it"));
  }
  for (const char* window : {"offset: \"1\"", "size: \"1M\""}) {
    EXPECT_THAT(
        Mistakes(PassedThrough(
            absl::StrCat("raw { file { filename: \"a\" } ", window, " }"), "",
            "")),
        ElementsAre("c:3:8: export \"x\" has passthrough, but node \"disk\" "
                    "shows a window; drop it, or offset and size"));
  }
  EXPECT_THAT(Mistakes(PassedThrough("raw { file_node: \"m\" }", "", "",
                                     "nodes { node_name: \"m\" null {} }")),
              ElementsAre("c:3:8: export \"x\" has passthrough, but node \"m\" "
                          "is not a file as it is; drop it"));
}

TEST(PassthroughTest, WritingMakesAFileLonger) {
  EXPECT_THAT(
      Mistakes(PassedThrough(kDisk, kWrites, "")),
      ElementsAre("c:3:8: export \"x\" has passthrough: a write past the end "
                  "makes the file longer, though the size is fixed; add "
                  "resizable: true (--resizable), or let nobody write"));
}

TEST(PassthroughTest, DoesNotGoWithWhatItWouldGoPast) {
  EXPECT_THAT(Mistakes(PassedThrough(kDisk, "writable: true writethrough: true",
                                     kResizes)),
              ElementsAre("c:3:8: export \"x\" has passthrough, and "
                          "writethrough cannot be kept for what goes that way; "
                          "drop one of them"));
  EXPECT_THAT(Mistakes(PassedThrough(kDisk, "", "cache: NONE")),
              ElementsAre("c:3:8: export \"x\" has passthrough, and cache: "
                          "NONE, which brings reads here; drop one of them"));
  EXPECT_THAT(
      Mistakes(PassedThrough(absl::StrCat("detect_zeroes: ON ", kDisk), kWrites,
                             kResizes)),
      ElementsAre(
          "c:3:8: export \"x\" has passthrough, but node \"disk\" is to "
          "look for zeros in what goes past it; drop it, or "
          "detect_zeroes"));
  EXPECT_THAT(
      Mistakes(PassedThrough(absl::StrCat("write_threshold: \"1M\" ", kDisk),
                             kWrites, kResizes)),
      ElementsAre(
          "c:3:8: export \"x\" has passthrough, but node \"disk\" is to tell "
          "of writes that go past it; drop it, or write_threshold"));
  for (const char* node :
       {"cache { direct: true } raw { file { filename: \"a\" } }",
        "raw { file { filename: \"a\" cache { direct: true } } }"}) {
    EXPECT_THAT(
        Mistakes(PassedThrough(node, "", "")),
        ElementsAre("c:3:8: export \"x\" has passthrough, but the file of node "
                    "\"disk\" has cache { direct: true }, which clients decide "
                    "for themselves then; drop one of them"));
  }
}

TEST(PassthroughTest, NobodyElseUsesWhatItWrites) {
  constexpr char kNamed[] = R"(raw { file_node: "f" })";
  constexpr char kFile[] =
      "nodes { node_name: \"f\" file { filename: \"a\" } }\n";
  EXPECT_THAT(Mistakes(PassedThrough(kNamed, kWrites, kResizes, kFile)),
              IsEmpty());
  EXPECT_THAT(
      Mistakes(PassedThrough(kDisk, kWrites, kResizes,
                             "exports { id: \"y\" node: \"disk\" fuse {} }")),
      ElementsAre("c:3:8: export \"x\" has passthrough and is writable, but "
                  "export \"y\" uses node \"disk\" as well; drop one of them"));
  EXPECT_THAT(
      Mistakes(PassedThrough(
          kNamed, kWrites, kResizes,
          absl::StrCat(kFile, "exports { id: \"y\" node: \"f\" fuse {} }"))),
      ElementsAre("c:3:8: export \"x\" has passthrough and is writable, but "
                  "export \"y\" uses node \"f\" as well; drop one of them"));
  EXPECT_THAT(
      Mistakes(PassedThrough(
          kNamed, kWrites, kResizes,
          absl::StrCat(kFile,
                       "nodes { node_name: \"part\" read_only: true "
                       "raw { file_node: \"f\" offset: \"1\" } }"))),
      ElementsAre(
          "c:3:8: export \"x\" has passthrough and is writable, but node "
          "\"part\" uses node \"f\" as well; drop one of them"));
  // Another rule's, and told once.
  EXPECT_THAT(
      Mistakes(PassedThrough(kDisk, kWrites, kResizes,
                             "nodes { node_name: \"top\" qcow2 { file { "
                             "filename: \"b\" } backing: \"disk\" } }")),
      SizeIs(1));
}

TEST(PassthroughTest, OthersMayReadWhatItReads) {
  constexpr char kOther[] =
      "nodes { node_name: \"part\" raw { file_node: \"disk\" offset: \"1\" } "
      "}\n";
  EXPECT_THAT(Mistakes(PassedThrough(
                  kDisk, "", "",
                  absl::StrCat(kOther,
                               "exports { id: \"y\" node: \"part\" "
                               "fuse {} }\nexports { id: \"z\" node: "
                               "\"disk\" fuse { passthrough: true } "
                               "}"))),
              IsEmpty());
  EXPECT_THAT(
      Mistakes(PassedThrough(
          kDisk, "", "",
          absl::StrCat(kOther,
                       "exports { id: \"y\" node: \"part\" writable: "
                       "true fuse {} }"))),
      ElementsAre(
          "c:3:8: export \"x\" has passthrough, but export \"y\" writes "
          "to node \"disk\"; drop one of them"));
}

// Texts of the length that is allowed, and on one line, that make a careless
// check take quadratic time or memory.
template <typename Item>
std::string Long(Item item) {
  std::string text;
  for (int i = 0; text.size() < kMaxConfigBytes - 200; ++i) {
    absl::StrAppend(&text, item(i), " ");
  }
  return text;
}

TEST(WorstCaseTest, UnknownFields) {
  EXPECT_THAT(Mistakes(Long([](int) { return "node: 1"; })),
              SizeIs(::testing::Gt(100000)));
}

TEST(WorstCaseTest, UnknownNodes) {
  EXPECT_THAT(Mistakes(Long([](int i) {
                return absl::StrCat(
                    "nodes { node_name: \"abcdefghijklmnopqrstuvwxy", i,
                    "\" raw { file_node: \"zabcdefghijklmnopqrstuvwxy", i,
                    "\" } }");
              })),
              SizeIs(::testing::Gt(9000)));
}

TEST(WorstCaseTest, ManyWritersOverOneChain) {
  EXPECT_THAT(Mistakes(Long([](int i) {
                return absl::StrCat("nodes { node_name: \"n", i,
                                    "\" raw { file_node: \"n", i + 1,
                                    "\" } } exports { id: \"", i,
                                    "\" node: \"n0\" writable: true }");
              })),
              SizeIs(::testing::Gt(9000)));
}

TEST(WorstCaseTest, ManyPassedThrough) {
  EXPECT_THAT(Mistakes(absl::StrCat(
                  "nodes { node_name: \"n\" file { filename: \"a\" } }",
                  Long([](int i) {
                    return absl::StrCat(
                        "exports { id: \"", i,
                        "\" node: \"n\" writable: true fuse { "
                        "resizable: true passthrough: true } }");
                  }))),
              SizeIs(::testing::Gt(9000)));
}

TEST(WorstCaseTest, ManyCycles) {
  EXPECT_THAT(Mistakes(Long([](int i) {
                return absl::StrCat("nodes { node_name: \"n", i,
                                    "\" qcow2 { file_node: \"n", i + 1,
                                    "\" backing: \"n0\" } }");
              })),
              SizeIs(16 + 1));  // and the last file_node
}

}  // namespace
}  // namespace bgfs::config
