// Bases that overlays share, or have for themselves: parts and counts.

#include "config/shared_bases.h"

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/load.h"
#include "config/validate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A host on which file N of a name such as "/a.3.2" leads to files 3 and 2.
class Host {
 public:
  absl::StatusOr<std::vector<NamedFile>> Find(
      const std::vector<proto::Node>& nodes) {
    ++looks_;
    const std::string& name = nodes.front().file().filename();
    if (name == "/missing") return absl::NotFoundError("missing");
    std::vector<NamedFile> found;
    if (!nodes.back().has_qcow2()) {
      found.push_back({name, 1, InodeOf(name)});
      return found;
    }
    for (size_t at = name.find('.'); at != std::string::npos;
         at = name.find('.', at + 1)) {
      const std::string base = absl::StrCat("/", name.substr(at + 1, 1));
      found.push_back({base, 1, InodeOf(base)});
    }
    return found;
  }
  int looks() const { return looks_; }

 private:
  static uint64_t InodeOf(const std::string& name) {
    return static_cast<uint64_t>(name[1]);
  }

  int looks_ = 0;
};

class SharedBases : public ::testing::Test {
 protected:
  absl::Status Join(const std::string& text) {
    const Source source = LoadText(text, "c", "/");
    EXPECT_THAT(Validate(source), IsEmpty());
    int next = 1;
    plan_ =
        MakePlan(source, [&next] { return absl::StrCat("#block", next++); });
    return JoinSharedBases(
        [this](const std::vector<proto::Node>& nodes) {
          return host_.Find(nodes);
        },
        &plan_);
  }
  static std::string Overlay(const std::string& name, const std::string& file,
                             const std::string& more = "") {
    return absl::StrCat("nodes { node_name: \"", name,
                        "\" qcow2 { file { filename: \"", file, "\" } ", more,
                        " } }\nexports { id: \"", name, "\" node: \"", name,
                        "\" writable: true fuse {} }\n");
  }
  // "name part copies/named_copies" of the nodes that are no files.
  std::vector<std::string> Nodes() const {
    std::vector<std::string> lines;
    for (const Step& step : plan_.steps) {
      const auto* open = std::get_if<OpenNode>(&step);
      if (open == nullptr || open->node.has_file()) continue;
      lines.push_back(absl::StrCat(open->node.node_name(), " ", open->part, " ",
                                   open->copies, "/", open->named_copies));
    }
    return lines;
  }

  Host host_;
  Plan plan_;
};

constexpr char kOwn[] = "share_base: false";

TEST_F(SharedBases, OverlaysOfOneBaseAreOnePart) {
  ASSERT_TRUE(Join(Overlay("a", "/a.1") + Overlay("b", "/b.2") +
                   Overlay("c", "/c.3.1") + Overlay("d", "/d"))
                  .ok());
  EXPECT_THAT(Nodes(), ElementsAre("a 0 1/1", "b 1 1/1", "c 0 1/1", "d 2 1/1"));
  EXPECT_EQ(plan_.parts, 3);
  for (const Step& step : plan_.steps) {
    const auto* add = std::get_if<AddExport>(&step);
    if (add == nullptr) continue;
    EXPECT_EQ(add->part, add->item.id() == "b"   ? 1
                         : add->item.id() == "d" ? 2
                                                 : 0);
  }
}

TEST_F(SharedBases, PartsAreJoinedOverSeveralBases) {
  ASSERT_TRUE(Join(Overlay("a", "/a.1") + Overlay("b", "/b.2") +
                   Overlay("c", "/c.3") + Overlay("d", "/d.3.2.1"))
                  .ok());
  EXPECT_THAT(Nodes(), ElementsAre("a 0 1/1", "b 0 1/1", "c 0 1/1", "d 0 1/1"));
  EXPECT_EQ(plan_.parts, 1);
}

TEST_F(SharedBases, WhoHasItsOwnStaysAloneAndAllCount) {
  ASSERT_TRUE(Join(Overlay("a", "/a.1", kOwn) + Overlay("b", "/b.1") +
                   Overlay("c", "/c.1", kOwn) + Overlay("d", "/d.1") +
                   Overlay("e", "/e.2", kOwn))
                  .ok());
  EXPECT_THAT(Nodes(), ElementsAre("a 0 1/3", "b 1 1/3", "c 2 1/3", "d 1 1/3",
                                   "e 3 1/1"));
}

TEST_F(SharedBases, FiltersBelowAnImageAreLookedThrough) {
  ASSERT_TRUE(
      Join(absl::StrCat(
               Overlay("a", "/a.1"),
               "nodes { node_name: \"b\" qcow2 { file_node: \"t\" } }\n"
               "nodes { node_name: \"t\" throttle { limits {} file_inline { "
               "blkdebug { file_inline { file { filename: \"/b.1\" } } } } } "
               "}\n"))
          .ok());
  EXPECT_EQ(plan_.parts, 1);
}

TEST_F(SharedBases, WhatCannotBeLookedAtIsLeftAsItIs) {
  ASSERT_TRUE(Join(Overlay("a", "/missing") + Overlay("b", "/b.1")).ok());
  EXPECT_THAT(Nodes(), ElementsAre("a 0 1/1", "b 1 1/1"));
}

TEST_F(SharedBases, WhereNothingCanBeSharedNothingIsLookedAt) {
  ASSERT_TRUE(Join(Overlay("a", "/a.1")).ok());
  ASSERT_TRUE(
      Join("nodes { node_name: \"r\" raw { file { filename: \"/1\" } } }\n"
           "nodes { node_name: \"s\" raw { file { filename: \"/2\" } } }\n"
           "exports { id: \"r\" node: \"r\" writable: true fuse {} }\n")
          .ok());
  EXPECT_EQ(host_.looks(), 0);
}

TEST_F(SharedBases, AWriterToABaseIsRefused) {
  const std::string writer =
      "nodes { node_name: \"w\" raw { file { filename: \"/1\" } } }\n"
      "exports { id: \"w\" node: \"w\" writable: true fuse {} }\n";
  for (const std::string more : {"", kOwn}) {
    EXPECT_THAT(Join(Overlay("a", "/a.2.1", more) + writer).message(),
                AllOf(HasSubstr("node \"a\" rests on \"/1\""),
                      HasSubstr("node \"w\" is opened for writing")));
  }
  EXPECT_TRUE(Join("nodes { node_name: \"a\" force_share: true qcow2 { file { "
                   "filename: \"/a.1\" } } }" +
                   writer)
                  .ok());
}

// Two overlays of a base that is a node, which stands on another.
std::string Configured(const std::string& of_a, const std::string& of_b,
                       const std::string& more = "") {
  return absl::StrCat(
      "nodes { node_name: \"base\" qcow2 { file { filename: \"/x.1\" } "
      "backing: \"root\" } }\n"
      "nodes { node_name: \"root\" raw { file { filename: \"/1\" } } }\n"
      "nodes { node_name: \"a\" qcow2 { file { filename: \"/a\" } backing: "
      "\"base\" ",
      of_a,
      " } }\n"
      "nodes { node_name: \"b\" qcow2 { file { filename: \"/b\" } backing: "
      "\"base\" ",
      of_b, " } }\n", more);
}

TEST_F(SharedBases, ANodeIsSharedByAll) {
  ASSERT_TRUE(Join(Configured("", "")).ok());
  EXPECT_THAT(Nodes(),
              ElementsAre("root 0 1/1", "base 0 1/1", "a 0 1/1", "b 0 1/1"));
}

TEST_F(SharedBases, OrIsCopiedForEach) {
  ASSERT_TRUE(Join(Configured(kOwn, kOwn)).ok());
  EXPECT_EQ(plan_.parts, 2);
  // The copies have generated names, and what was copied is not open.
  EXPECT_THAT(Nodes(),
              ElementsAre(HasSubstr(" 0 2/1"), HasSubstr(" 0 2/1"), "a 0 1/1",
                          HasSubstr(" 1 2/1"), HasSubstr(" 1 2/1"), "b 1 1/1"));
  for (const Step& step : plan_.steps) {
    const auto* open = std::get_if<OpenNode>(&step);
    if (open == nullptr) continue;
    EXPECT_TRUE(open->node.read_only());
    EXPECT_NE(open->node.node_name(), "base");
  }
}

TEST_F(SharedBases, WhoeverElseUsesItKeepsIt) {
  ASSERT_TRUE(Join(Configured(kOwn, "")).ok());
  EXPECT_THAT(Nodes(),
              ElementsAre("root 0 2/1", "base 0 2/1", HasSubstr(" 1 2/1"),
                          HasSubstr(" 1 2/1"), "a 1 1/1", "b 0 1/1"));
  ASSERT_TRUE(
      Join(Configured(kOwn, kOwn,
                      "exports { id: \"root\" node: \"root\" fuse {} }"))
          .ok());
  EXPECT_THAT(Nodes(),
              ElementsAre("root 0 3/1", HasSubstr(" 1 3/1"),
                          HasSubstr(" 1 2/1"), "a 1 1/1", HasSubstr(" 2 3/1"),
                          HasSubstr(" 2 2/1"), "b 2 1/1"));
}

// The header's names below a copy are its own, too.
TEST_F(SharedBases, WhatACopysHeaderNamesIsItsOwn) {
  const std::string base =
      "nodes { node_name: \"base\" qcow2 { file { filename: \"/x.1\" } } }\n";
  const std::string a =
      "nodes { node_name: \"a\" qcow2 { file { filename: \"/a\" } backing: "
      "\"base\" share_base: false } }\n";
  const std::string b =
      "nodes { node_name: \"b\" qcow2 { file { filename: \"/b\" } backing: "
      "\"base\" share_base: false } }\n";
  ASSERT_TRUE(Join(base + a + b + Overlay("c", "/c.1")).ok());
  EXPECT_EQ(plan_.parts, 3);
  EXPECT_THAT(Nodes(), ElementsAre(HasSubstr(" 0 2/3"), "a 0 1/1",
                                   HasSubstr(" 1 2/3"), "b 1 1/1", "c 2 1/3"));
}

}  // namespace
}  // namespace bgfs::config
