// What a change of the configuration comes to.

#include "config/difference.h"

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
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DifferenceTest : public ::testing::Test {
 protected:
  Plan PlanOf(const std::string& text) {
    const Source source = LoadText(text, "test", "/");
    for (const Diagnostic& mistake : Validate(source)) {
      ADD_FAILURE() << Format("test", mistake);
    }
    return MakePlan(source,
                    [this] { return absl::StrCat("#block", ++names_); });
  }

  absl::StatusOr<Change> Between(const std::string& was,
                                 const std::string& wanted) {
    const absl::StatusOr<Change> first = Compare(LivePlan(), PlanOf(was));
    EXPECT_TRUE(first.ok()) << first.status();
    return Compare(first->result, PlanOf(wanted));
  }

  std::vector<std::string> Steps(const std::string& was,
                                 const std::string& wanted) {
    const absl::StatusOr<Change> change = Between(was, wanted);
    if (!change.ok()) return {std::string(change.status().message())};
    return Describe(*change);
  }

  int names_ = 0;
};

constexpr char kChain[] = R"(
    nodes { node_name: "base" read_only: true raw { file { filename: "b" } } }
    nodes { node_name: "top" qcow2 { file { filename: "t" } backing: "base" } }
    exports { id: "disk" node: "top" writable: true fuse {} })";

TEST_F(DifferenceTest, NothingIsNothing) {
  EXPECT_THAT(Steps(kChain, kChain), IsEmpty());
}

TEST_F(DifferenceTest, TheFirstOneOpensAll) {
  EXPECT_THAT(
      Steps("", kChain),
      ElementsAre(R"(open node "base/file": file)", R"(open node "base": raw)",
                  R"(open node "top/file": file)", R"(open node "top": qcow2)",
                  R"(add export "disk" of node "top", writable)"));
}

TEST_F(DifferenceTest, SettingsAreReopened) {
  const auto change = Between(R"(
    nodes { node_name: "a" raw { file { filename: "a" } } }
    exports { id: "a" node: "a" fuse {} })",
                              R"(
    nodes { node_name: "a" discard: UNMAP
            raw { file { filename: "a" cache { direct: true } } } }
    exports { id: "a" node: "a" fuse {} })");
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_THAT(
      Describe(*change),
      ElementsAre(R"(reopen node "a/file": cache.direct: false -> true)",
                  R"(reopen node "a": discard: IGNORE -> UNMAP)"));
  EXPECT_TRUE(change->reopens[0].other_driver);
  EXPECT_FALSE(change->reopens[1].other_driver) << "the engine sees to it";
}

TEST_F(DifferenceTest, AWriterMakesNodesWritable) {
  EXPECT_THAT(
      Steps(R"(
    nodes { node_name: "a" raw { file { filename: "a" } } }
    exports { id: "r" node: "a" fuse {} })",
            R"(
    nodes { node_name: "a" raw { file { filename: "a" } } }
    exports { id: "w" node: "a" writable: true fuse {} })"),
      ElementsAre(R"(reopen node "a/file": read_only: true -> false)",
                  R"(reopen node "a": read_only: true -> false)",
                  R"(add export "w" of node "a", writable)",
                  R"(remove export "r": what has it open gets ESHUTDOWN)"));
}

TEST_F(DifferenceTest, AnotherFileReopensTheFormatOverIt) {
  EXPECT_THAT(
      Steps(kChain, R"(
    nodes { node_name: "base" read_only: true raw { file { filename: "b" } } }
    nodes { node_name: "top" qcow2 { file { filename: "u" } backing: "base" } }
    exports { id: "disk" node: "top" writable: true fuse {} })"),
      ElementsAre(R"(reopen node "top/file": file.filename: "/t" -> "/u")",
                  R"(reopen node "top": what it stands on has changed)"));
}

TEST_F(DifferenceTest, AnotherBackingIsALink) {
  EXPECT_THAT(
      Steps(kChain, R"(
    nodes { node_name: "other" read_only: true memory { size: "1M" } }
    nodes { node_name: "top" qcow2 { file { filename: "t" } backing: "other" } }
    exports { id: "disk" node: "top" writable: true fuse {} })"),
      ElementsAre(R"(open node "other": memory)",
                  R"(link backing of node "top": node "base" -> node "other")",
                  R"(close node "base")", R"(close node "base/file")"));
}

TEST_F(DifferenceTest, AFilterUnderAFormatReopensNothing) {
  EXPECT_THAT(
      Steps(R"(
    nodes { node_name: "f" file { filename: "t" } }
    nodes { node_name: "top" qcow2 { file_node: "f" } }
    exports { id: "disk" node: "top" writable: true fuse {} })",
            R"(
    nodes { node_name: "f" file { filename: "t" } }
    nodes { node_name: "filter" raw { file_node: "f" } }
    nodes { node_name: "top" qcow2 { file_node: "filter" } }
    exports { id: "disk" node: "top" writable: true fuse {} })"),
      ElementsAre(R"(open node "filter": raw)",
                  R"(link file of node "top": node "f" -> node "filter")"));
}

TEST_F(DifferenceTest, PartsGetNewNumbers) {
  const auto change = Between(kChain, absl::StrCat(kChain, R"(
    nodes { node_name: "m" memory { size: "1M" } }
    exports { id: "m" node: "m" fuse {} })"));
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(change->opens[0].part, 1);
  EXPECT_EQ(change->added[0].part, 1);
  EXPECT_EQ(change->result.parts, 2);
}

TEST_F(DifferenceTest, APartWithoutExportsIsOpenedAnewInAnother) {
  const std::string apart = absl::StrCat(kChain, R"(
    nodes { node_name: "b" read_only: true raw { file { filename: "c" } } })");
  EXPECT_THAT(
      Steps(apart, R"(
    nodes { node_name: "top" qcow2 { file { filename: "t" } backing: "b" } }
    nodes { node_name: "b" read_only: true raw { file { filename: "c" } } }
    exports { id: "disk" node: "top" writable: true fuse {} })"),
      ElementsAre(R"(open node "b/file": file)", R"(open node "b": raw)",
                  R"(link backing of node "top": node "base" -> node "b")",
                  R"(close node "b")", R"(close node "b/file")",
                  R"(close node "base")", R"(close node "base/file")"));
}

TEST_F(DifferenceTest, WhatARunningDaemonCannotDoIsSaid) {
  const std::string two = R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "t" raw { file { filename: "t" } } }
    exports { id: "a" node: "a" fuse {} })";
  const std::string both = absl::StrCat(two, R"(
    exports { id: "t" node: "t" fuse {} })");
  EXPECT_THAT(Steps(two, R"(
    nodes { node_name: "a" memory { size: "2M" } }
    nodes { node_name: "t" raw { file { filename: "t" } } }
    exports { id: "a" node: "a" fuse {} })"),
              ElementsAre(HasSubstr("cannot change its size")));
  EXPECT_THAT(Steps(both, R"(
    nodes { node_name: "a" memory { size: "1M" } }
    nodes { node_name: "t" raw { file_node: "a" } }
    exports { id: "a" node: "a" fuse {} })"),
              ElementsAre(HasSubstr("at homes of their own")));
  EXPECT_THAT(Steps(two, R"(
    nodes { node_name: "a" null { size: "1M" } }
    nodes { node_name: "t" raw { file { filename: "t" } } }
    exports { id: "a" node: "a" fuse {} })"),
              ElementsAre(HasSubstr("cannot change from memory to null")));
}

TEST_F(DifferenceTest, AnExportThatCannotChangeIsReplaced) {
  const std::string one = R"(
    nodes { node_name: "a" memory { size: "1M" } })";
  EXPECT_THAT(
      Steps(absl::StrCat(one, R"(exports { id: "a" node: "a" fuse {} })"),
            absl::StrCat(
                one, R"(exports { id: "a" node: "a" fuse { mode: 0444 } })")),
      ElementsAre(R"(replace export "a": fuse.mode: 256 -> 292; what has it )"
                  "open gets ESHUTDOWN"));
  EXPECT_THAT(
      Steps(absl::StrCat(
                one, R"(exports { id: "a" node: "a" writable: true fuse {} })"),
            absl::StrCat(one, R"(exports { id: "a" node: "a" writable: true
                                     fuse { resizable: true } })")),
      ElementsAre(R"(change export "a": fuse.resizable: false -> true)"));
}

}  // namespace
}  // namespace bgfs::config
