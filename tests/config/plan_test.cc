#include "config/plan.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/load.h"
#include "config/validate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Plan PlanOf(const Source& source) {
  EXPECT_THAT(Validate(source), IsEmpty());
  int next = 1;
  return MakePlan(source, [&] { return absl::StrCat("#block", next++); });
}

// One line for each step: its part, and its message in text format.
std::vector<std::string> Steps(const Plan& plan) {
  std::vector<std::string> lines;
  for (const Step& step : plan.steps) {
    if (const auto* open = std::get_if<OpenNode>(&step)) {
      lines.push_back(absl::StrCat("open ", open->part, " ",
                                   open->node.ShortDebugString()));
    } else {
      const auto& add = std::get<AddExport>(step);
      lines.push_back(
          absl::StrCat("add ", add.part, " ", add.item.ShortDebugString()));
    }
  }
  return lines;
}

TEST(PlanTest, OpensBottomUpAndThenExports) {
  const Plan plan = PlanOf(LoadText(
      R"(
    nodes { node_name: "base" read_only: true raw { file { filename: "base.img" } } }
    nodes { node_name: "top" qcow2 { file { filename: "top.qcow2" } backing: "base" } }
    nodes { node_name: "scratch" discard: UNMAP raw { file { filename: "scratch.img" cache { direct: true } } } }
    exports { id: "disk" node: "top" fuse {} }
    exports { id: "scratch" node: "scratch" writable: true fuse { resizable: true } })",
      "c", "/etc"));
  EXPECT_THAT(
      Steps(plan),
      ElementsAre(
          "open 0 node_name: \"#block1\" read_only: true discard: UNMAP file { "
          "filename: \"/etc/base.img\" }",
          "open 0 node_name: \"base\" read_only: true raw { file_node: "
          "\"#block1\" }",
          "open 0 node_name: \"#block2\" read_only: true discard: UNMAP file { "
          "filename: \"/etc/top.qcow2\" }",
          "open 0 node_name: \"top\" read_only: true qcow2 { file_node: "
          "\"#block2\" backing: \"base\" }",
          "open 1 node_name: \"#block3\" read_only: false discard: UNMAP cache "
          "{ direct: true } file { filename: \"/etc/scratch.img\" }",
          "open 1 node_name: \"scratch\" read_only: false discard: UNMAP raw { "
          "file_node: \"#block3\" }",
          "add 0 id: \"disk\" node: \"top\" fuse { mode: 256 }",
          "add 1 id: \"scratch\" node: \"scratch\" writable: true fuse { "
          "resizable: true mode: 384 }"));
  EXPECT_EQ(plan.parts, 2);
  EXPECT_EQ(plan.implicit_files, proto::ImplicitFiles::SAME_DIR);
  EXPECT_THAT(plan.allow_implicit, IsEmpty());
}

TEST(PlanTest, FiltersStandOnTheirFile) {
  const Plan plan = PlanOf(LoadText(
      R"(
    exports { id: "e" node: "t" writable: true fuse {} }
    nodes { node_name: "t" throttle { group: "g" file_inline {
      throttle { limits { bps_read: "1K" iops_read: 5 } file_node: "m" } } } }
    nodes { node_name: "m" memory { size: "1M" } }
    throttle_groups { name: "g" limits { bps_write: "2M" iops_write: 7 } })",
      "c", "/etc"));
  EXPECT_THAT(
      Steps(plan),
      ElementsAre(
          "open 0 node_name: \"m\" read_only: false memory { size: "
          "\"1048576\" }",
          "open 0 node_name: \"#block1\" read_only: false discard: UNMAP "
          "throttle { file_node: \"m\" limits { iops_read: 5 bps_read: "
          "\"1024\" } }",
          "open 0 node_name: \"t\" read_only: false throttle { file_node: "
          "\"#block1\" group: \"g\" }",
          "add 0 id: \"e\" node: \"t\" writable: true fuse { mode: 384 }"));
  ASSERT_EQ(plan.throttle_groups.size(), 1u);
  EXPECT_EQ(plan.throttle_groups[0].ShortDebugString(),
            "name: \"g\" limits { iops_write: 7 bps_write: \"2097152\" }");
}

TEST(PlanTest, ReadersMayFillAnOverlay) {
  const Plan plan = PlanOf(LoadText(
      R"(
    exports { id: "e" node: "c" fuse {} }
    nodes { node_name: "c" copy_on_read { file_inline {
      read_only: false
      blkdebug {
        file_node: "m" align: "4K"
        inject_error { error: "EIO" offset: "1K" }
        inject_delay { delay_ms: 5 bytes: "2K" }
        suspend { tag: "5K" offset: "3K" }
      } } } }
    nodes { node_name: "m" memory { size: "1M" } })",
      "c", "/etc"));
  EXPECT_THAT(
      Steps(plan),
      ElementsAre(
          "open 0 node_name: \"m\" read_only: false memory { size: "
          "\"1048576\" }",
          "open 0 node_name: \"#block1\" read_only: false discard: UNMAP "
          "blkdebug { file_node: \"m\" inject_error { offset: \"1024\" error: "
          "\"EIO\" } inject_delay { bytes: \"2048\" delay_ms: 5 } suspend { "
          "offset: \"3072\" tag: \"5K\" } align: \"4096\" }",
          "open 0 node_name: \"c\" read_only: true copy_on_read { file_node: "
          "\"#block1\" }",
          "add 0 id: \"e\" node: \"c\" fuse { mode: 256 }"));
}

TEST(PlanTest, AnyOrderAndInlineNodes) {
  const Plan plan = PlanOf(LoadText(
      R"(
    exports { id: "e" node: "inner" fuse { mountpoint: "m" mode: 0644 } }
    nodes { node_name: "top" qcow2 {
      file_node: "f"
      l2_cache_size: "1M"
      backing_inline { node_name: "inner" raw { file { filename: "b" } } }
    } }
    nodes { node_name: "f" file { filename: "t" } }
    implicit_files: DENY)",
      "c", "/etc"));
  EXPECT_THAT(
      Steps(plan),
      ElementsAre(
          "open 0 node_name: \"f\" read_only: true file { filename: \"/etc/t\" "
          "}",
          "open 0 node_name: \"#block1\" read_only: true discard: UNMAP file { "
          "filename: \"/etc/b\" }",
          "open 0 node_name: \"inner\" read_only: true discard: UNMAP raw { "
          "file_node: \"#block1\" }",
          "open 0 node_name: \"top\" read_only: true qcow2 { file_node: \"f\" "
          "backing: \"inner\" l2_cache_size: \"1048576\" }",
          "add 0 id: \"e\" node: \"inner\" fuse { mountpoint: \"/etc/m\" mode: "
          "420 }"));
  EXPECT_EQ(plan.implicit_files, proto::ImplicitFiles::DENY);
}

TEST(PlanTest, SizesAreBytes) {
  const Plan plan = PlanOf(LoadText(
      R"(nodes { node_name: "m" memory { size: "1K" } }
         nodes { node_name: "n" null { size: "2K" } }
         nodes { node_name: "r" raw { file_node: "m" offset: "0K" size: "512" } }
         allow_implicit: "a" allow_implicit: "/b")",
      "c", "/etc"));
  EXPECT_THAT(
      Steps(plan),
      ElementsAre("open 0 node_name: \"m\" read_only: true memory { size: "
                  "\"1024\" }",
                  "open 1 node_name: \"n\" read_only: true null { size: "
                  "\"2048\" }",
                  "open 0 node_name: \"r\" read_only: true raw { file_node: "
                  "\"m\" offset: \"0\" size: \"512\" }"));
  EXPECT_EQ(plan.parts, 2);
  EXPECT_THAT(plan.allow_implicit, ElementsAre("/etc/a", "/b"));
}

// What is open for writing among r -> m, which `text` completes.
std::vector<bool> ReadOnly(const std::string& node_settings,
                           const std::string& below_settings,
                           const std::string& exports) {
  const Plan plan = PlanOf(
      LoadText(absl::StrCat("nodes { node_name: \"m\" memory { size: \"1K\" } ",
                            below_settings, "} nodes { node_name: \"r\" raw { ",
                            "file_node: \"m\" } ", node_settings, "}", exports),
               "c", "/"));
  std::vector<bool> read_only;
  for (const Step& step : plan.steps) {
    if (const auto* open = std::get_if<OpenNode>(&step)) {
      read_only.push_back(open->node.read_only());
    }
  }
  return read_only;
}

TEST(PlanTest, WritingIsDecidedByUse) {
  const std::string reader = "exports { id: \"e\" node: \"r\" fuse {} }";
  const std::string writer =
      "exports { id: \"e\" node: \"r\" writable: true fuse {} }";
  EXPECT_THAT(ReadOnly("", "", reader), ElementsAre(true, true));
  EXPECT_THAT(ReadOnly("", "", writer), ElementsAre(false, false));
  EXPECT_THAT(ReadOnly("read_only: false", "", reader),
              ElementsAre(false, false));
  EXPECT_THAT(ReadOnly("", "read_only: false", reader),
              ElementsAre(false, true));
  EXPECT_THAT(ReadOnly("read_only: true", "read_only: true", reader),
              ElementsAre(true, true));
}

TEST(PlanTest, ACommandLineNeedsNoText) {
  proto::Config config;
  proto::Node* node = config.add_nodes();
  node->set_node_name("a");
  node->mutable_raw()->mutable_file()->set_filename("disk.img");
  EXPECT_THAT(Steps(PlanOf(FromMessage(config, "/home"))),
              ElementsAre("open 0 node_name: \"#block1\" read_only: true "
                          "discard: UNMAP file { filename: "
                          "\"/home/disk.img\" }",
                          "open 0 node_name: \"a\" read_only: true raw { "
                          "file_node: \"#block1\" }"));
}

TEST(PlanDeathTest, RefusesAWrongConfiguration) {
  proto::Config config;
  config.add_nodes();
  const Source source = FromMessage(config, "/");
  EXPECT_DEATH(MakePlan(source, [] { return std::string("#block1"); }),
               "Validate");
}

}  // namespace
}  // namespace bgfs::config
