// What makes filters wrong: each rule by the text that breaks it.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/validate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/config/check_text.h"

namespace bgfs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

TEST(ValidateFiltersTest, AcceptsWhatIsRight) {
  EXPECT_THAT(Mistakes(R"(
    throttle_groups { name: "slow" limits {
      iops_total: 100 iops_total_max: 200 iops_total_max_length: 60
      bps_read: "10M" bps_read_max: "10M" bps_write: "1M" iops_size: "64K" } }
    throttle_groups { name: "free" }
    nodes { node_name: "m" memory { size: "1M" } }
    nodes { node_name: "a" throttle { file_node: "m" group: "slow" } }
    nodes { node_name: "b" throttle { group: "free" file_inline {
      throttle { file_node: "m" limits { iops_read: 0 bps_read: "0" } } } } }
    exports { id: "a" node: "a" writable: true fuse { resizable: true } }
    exports { id: "b" node: "b" fuse {} }
  )"),
              IsEmpty());
  EXPECT_THAT(Mistakes(R"(
    nodes { node_name: "top" read_only: false
            qcow2 { file { filename: "t" } backing_inline { null {} } } }
    nodes { node_name: "a" copy_on_read { file_node: "top" } }
    nodes { node_name: "b" copy_on_read { file_inline {
      throttle { limits {} file_inline { null {} } } } } }
    exports { id: "a" node: "a" fuse {} }
    exports { id: "b" node: "b" writable: true fuse {} }
  )"),
              IsEmpty());
  EXPECT_THAT(Mistakes(R"(
    nodes { node_name: "a" blkdebug {
      file_inline { null {} }
      inject_error { operation: READ operation: FLUSH offset: "1M" bytes: "1K"
                     error: "EIO" skip: 5 times: 1 immediately: true }
      inject_error { error: "5" once: true }
      inject_delay { operation: [WRITE, ZERO] delay_ms: 0 }
      suspend { operation: BLOCK_STATUS tag: "" }
      align: "512" max_transfer: "64K" opt_write_zero: "1M"
      max_write_zero: "2M" opt_discard: "512" max_discard: "1G"
    } }
  )"),
              IsEmpty());
}

struct Case {
  const char* text;
  std::vector<std::string> mistakes;
};

class ValidateFiltersTableTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidateFiltersTableTest, SaysExactly) {
  EXPECT_THAT(Mistakes(GetParam().text), ElementsAreArray(GetParam().mistakes))
      << GetParam().text;
}

INSTANTIATE_TEST_SUITE_P(
    Throttles, ValidateFiltersTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"a\" throttle {} }",
             {"c:1:24: node \"a\" needs a file_node or file_inline",
              "c:1:24: node \"a\" needs a group or limits"}},
        Case{"nodes { node_name: \"a\" throttle {\n"
             "  file_inline {} limits {} } }",
             {"c:2:3: the file of node \"a\" has no driver; give it one of "
              "file, raw, qcow2, null, memory, throttle, copy_on_read, "
              "blkdebug"}},
        Case{"nodes { node_name: \"a\" throttle { file_node: \"b\"\n"
             "  limits {} } }",
             {"c:1:35: node \"a\": no node is called \"b\""}},
        Case{"nodes { node_name: \"a\" throttle { file_node: \"a\"\n"
             "  limits {} } }",
             {"c:1:1: nodes stand on each other in a circle: node \"a\" -> "
              "node \"a\""}},
        Case{"nodes { node_name: \"a\" throttle { file_inline { null {} }\n"
             "  group: \"slow\" limits {} } }",
             {"c:2:17: limits beside group: only one can be given"}},
        Case{"throttle_groups { name: \"slow\" }\n"
             "nodes { node_name: \"a\" throttle { file_inline { null {} }\n"
             "  group: \"slw\" } }",
             {"c:3:3: node \"a\": no throttle group is called \"slw\"; did you "
              "mean \"slow\"?"}},
        Case{"throttle_groups {}", {"c:1:1: a throttle group needs a name"}},
        Case{"throttle_groups { name: \"\" }",
             {"c:1:19: a throttle group has an empty name"}},
        Case{"throttle_groups { name: \"g\" }\n"
             "throttle_groups { limits {} name: \"g\" }",
             {"c:2:29: throttle group \"g\" is defined twice; first on line "
              "1"}},
        // What a filter shows is written where the filter is.
        Case{"nodes { node_name: \"m\" read_only: true null {} }\n"
             "nodes { node_name: \"a\" throttle { file_node: \"m\" limits {} } "
             "}\n"
             "exports { id: \"e\" node: \"a\" writable: true fuse {} }",
             {"c:3:29: export \"e\" is writable, but node \"m\" is "
              "read_only"}},
        Case{"nodes { node_name: \"a\" throttle { limits {}\n"
             "  file_inline { raw { file { filename: \"x\" } size: \"1M\" } } "
             "} }\n"
             "exports { id: \"e\" node: \"a\" writable: true\n"
             "  fuse { resizable: true } }",
             {"c:4:10: export \"e\" is resizable, but the file of node \"a\" "
              "has a fixed size"}},
        Case{"nodes { node_name: \"a\" throttle { limits {}\n"
             "  file_inline { file { filename: \"x\" } } } }\n"
             "exports { id: \"e\" node: \"a\" fuse { passthrough: true } }",
             {"c:3:36: export \"e\" has passthrough, but node \"a\" is not a "
              "file as it is; drop it"}}));

INSTANTIATE_TEST_SUITE_P(
    CopyOnRead, ValidateFiltersTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"a\" copy_on_read {} }",
             {"c:1:24: node \"a\" needs a file_node or file_inline"}},
        Case{"nodes { node_name: \"m\" null {} }\n"
             "nodes { node_name: \"a\" copy_on_read { file_node: \"m\" } }\n"
             "exports { id: \"e\" node: \"a\" fuse {} }",
             {"c:2:24: node \"a\" copies what is read into node \"m\", which "
              "is not opened for writing; give that read_only: false"}},
        Case{"nodes { node_name: \"a\" copy_on_read {\n"
             "  file_inline { null {} } } }",
             {"c:1:24: node \"a\" copies what is read into the file of node "
              "\"a\", which is not opened for writing; give that read_only: "
              "false"}}));

INSTANTIATE_TEST_SUITE_P(
    Blkdebug, ValidateFiltersTableTest,
    ::testing::Values(
        Case{"nodes { node_name: \"a\" blkdebug {} }",
             {"c:1:24: node \"a\" needs a file_node or file_inline"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  inject_error {} inject_delay {} suspend {} } }",
             {"c:2:3: node \"a\": inject_error needs an error, as \"EIO\"",
              "c:2:19: node \"a\": inject_delay needs delay_ms",
              "c:2:35: node \"a\": suspend needs a tag"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  inject_error { error: \"EX\" }\n"
             "  inject_error { error: \"0\" } } }",
             {"c:2:18: node \"a\": error \"EX\" is no errno; give its name, as "
              "\"EIO\", or its number",
              "c:3:18: node \"a\": error \"0\" is no errno; give its name, as "
              "\"EIO\", or its number"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  inject_delay { delay_ms: -1 skip: -1 }\n"
             "  inject_delay { delay_ms: 3600001 times: 0 }\n"
             "  suspend { tag: \"A\" once: true times: 1 } } }",
             {"c:2:18: node \"a\": delay_ms -1 is not between 0 and 3600000",
              "c:2:31: node \"a\": skip -1 is negative; give 0 or more",
              ("c:3:18: node \"a\": delay_ms 3600001 is not between 0 and "
               "3600000"),
              "c:3:36: node \"a\": times 0 is never; give 1 or more",
              "c:4:33: node \"a\": times beside once; drop one of them"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  suspend { tag: \"A\" offset: \"-1\" bytes: \"0\" }\n"
             "  suspend { tag: \"A\" offset: \"4E\" bytes: \"4E\" }\n"
             "  suspend { tag: \"A\" operation: FLUSH offset: \"1\" } } }",
             {"c:2:22: node \"a\": offset \"-1\" is not a size: write bytes, "
              "or a number with K, M, G, T, P or E, as in \"64K\"",
              "c:2:35: node \"a\": bytes 0 is no range; give more, or drop it",
              "c:3:35: node \"a\": offset and bytes together exceed \"8E\"",
              "c:4:22: node \"a\": FLUSH and TRUNCATE are of no range; drop "
              "offset and bytes"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  align: \"1000\" max_transfer: \"0\" } }",
             {"c:2:3: node \"a\": align 1000 is not a power of two up to "
              "1048576",
              "c:2:17: node \"a\": max_transfer 0 is no limit; give more, or "
              "drop it"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  align: \"4K\" max_transfer: \"5K\" opt_discard: \"x\" } }",
             {"c:2:15: node \"a\": max_transfer 5120 is not a multiple of "
              "align",
              "c:2:34: node \"a\": opt_discard \"x\" is not a size: write "
              "bytes, or a number with K, M, G, T, P or E, as in "
              "\"64K\""}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  align: \"2M\" } }",
             {"c:2:3: node \"a\": align 2097152 is not a power of two up to "
              "1048576"}},
        Case{"nodes { node_name: \"a\" blkdebug { file_inline { null {} }\n"
             "  suspend { operation: SYNC } } }",
             {"c:2:24: operation is one of READ, WRITE, ZERO, DISCARD, FLUSH, "
              "TRUNCATE, RESERVE, BLOCK_STATUS, not \"SYNC\""}}));

std::vector<std::string> OfLimits(const std::string& limits) {
  return Mistakes(
      absl::StrCat("throttle_groups { name: \"g\" limits {\n", limits, " } }"));
}

TEST(ValidateFiltersTest, LimitsThatMakeNoSense) {
  const std::string g = ": throttle group \"g\": ";
  EXPECT_THAT(
      OfLimits("iops_read: -1 iops_write: 1000000000000001"),
      ElementsAre(
          absl::StrCat("c:2:1", g, "iops_read -1 is negative; give 0 or more"),
          absl::StrCat("c:2:15", g,
                       "iops_write 1000000000000001 is too much; "
                       "1000000000000000 is the most")));
  EXPECT_THAT(
      OfLimits("bps_total: \"1X\" bps_read_max: \"8E\" iops_size: \"-1\""),
      ElementsAre(
          absl::StrCat("c:2:1", g,
                       "bps_total \"1X\" is not a size: write bytes, or a "
                       "number with K, M, G, T, P or E, as in \"64K\""),
          absl::StrCat("c:2:17", g,
                       "bps_read_max \"8E\" is too large: sizes end below "
                       "\"8E\""),
          absl::StrCat("c:2:36", g,
                       "iops_size \"-1\" is not a size: write bytes, or a "
                       "number with K, M, G, T, P or E, as in \"64K\"")));
  EXPECT_THAT(OfLimits("bps_total: \"1P\""),
              ElementsAre(absl::StrCat("c:2:1", g,
                                       "bps_total 1125899906842624 is too "
                                       "much; 1000000000000000 is the most")));
  EXPECT_THAT(OfLimits("iops_total: 1 iops_read: 1 iops_write: 1\n"
                       "bps_write: \"1\" bps_total: \"1\""),
              ElementsAre(absl::StrCat("c:2:1", g,
                                       "iops_total beside iops_read; limit all "
                                       "together, or reads and writes"),
                          absl::StrCat("c:3:16", g,
                                       "bps_total beside bps_write; limit all "
                                       "together, or reads and writes")));
  EXPECT_THAT(
      OfLimits("iops_read: 10 iops_read_max: 9 bps_read_max: \"5\""),
      ElementsAre(absl::StrCat("c:2:15", g,
                               "iops_read_max is less than iops_read; make it "
                               "more, or drop it"),
                  absl::StrCat("c:2:32", g,
                               "bps_read_max without bps_read, which it "
                               "exceeds; add that")));
  EXPECT_THAT(
      OfLimits("iops_read: 1 iops_read_max_length: 2\n"
               "bps_read: \"1\" bps_read_max: \"1G\" bps_read_max_length: 0\n"
               "bps_write: \"1\" bps_write_max: \"1G\"\n"
               "bps_write_max_length: 1000000"),
      ElementsAre(
          absl::StrCat("c:2:14", g,
                       "iops_read_max_length without iops_read_max; add that"),
          absl::StrCat("c:3:34", g,
                       "bps_read_max_length 0 is no time; give 1 second or "
                       "more"),
          absl::StrCat("c:5:1", g,
                       "bps_write_max_length 1000000 is too long: a burst may "
                       "let pass 1000000000000000 at most")));
  EXPECT_THAT(OfLimits("iops_size: \"4K\" bps_total: \"1M\""),
              ElementsAre(absl::StrCat("c:2:1", g,
                                       "iops_size without a limit of iops; add "
                                       "one, or drop it")));
}

TEST(ValidateFiltersTest, LimitsOfANodeAreItsOwn) {
  EXPECT_THAT(Mistakes("nodes { node_name: \"a\" throttle {\n"
                       "  limits { iops_read: -1 } file_inline { null {} } } "
                       "}"),
              ElementsAre("c:2:12: node \"a\": iops_read -1 is negative; give "
                          "0 or more"));
}

TEST(ValidateFiltersTest, WhatMayBeMisspeltIsNotMissing) {
  EXPECT_THAT(Mistakes("throttle_groups { nme: \"g\" limits { iops_sice: 1\n"
                       "  iops_read_max: 5 iops_read_max_length: 5 } }\n"
                       "nodes { node_name: \"a\" throttle { fil_node: \"a\" } "
                       "}"),
              ElementsAre("c:1:19: ThrottleGroup has no field \"nme\"; did you "
                          "mean \"name\"?",
                          "c:1:37: ThrottleLimits has no field \"iops_sice\"; "
                          "did you mean \"iops_size\"?",
                          "c:3:35: Throttle has no field \"fil_node\"; did you "
                          "mean \"file_node\"?"));
}

}  // namespace
}  // namespace bgfs::config
