// What the verbs do to a configuration.

#include "config/edit.h"

#include <string>

#include "config/load.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;

proto::Config ConfigOf(const std::string& text) {
  const Source source = LoadText(text, "test", "/");
  EXPECT_TRUE(source.parsed && source.errors.empty()) << text;
  return source.config;
}

proto::Node NodeOf(const std::string& text) {
  proto::Node node;
  EXPECT_TRUE(ParseNode(text, &node).ok()) << text;
  return node;
}

void ExpectIs(const proto::Config& config, const std::string& text) {
  EXPECT_TRUE(MessageDifferencer::Equals(config, ConfigOf(text)))
      << config.DebugString();
}

constexpr char kChain[] = R"(
    nodes { node_name: "base" raw { file { filename: "b" } } }
    nodes { node_name: "top" qcow2 { file { filename: "t" } backing: "base" } }
    exports { id: "disk" node: "top" fuse {} })";

// The message stays as it is where a verb fails.
void ExpectRefused(const absl::Status& status, const proto::Config& config,
                   const std::string& why) {
  EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  ExpectIs(config, kChain);
}

TEST(EditTest, AFilterIsInsertedAndDropped) {
  proto::Config config = ConfigOf(kChain);
  EXPECT_TRUE(
      InsertNode(NodeOf(R"(node_name: "f" raw {})"), "top", &config).ok());
  ExpectIs(config, R"(
    nodes { node_name: "base" raw { file { filename: "b" } } }
    nodes { node_name: "top" qcow2 { file { filename: "t" } backing: "base" } }
    nodes { node_name: "f" raw { file_node: "top" } }
    exports { id: "disk" node: "f" fuse {} })");
  EXPECT_TRUE(DropNode("f", &config).ok());
  ExpectIs(config, kChain);
  EXPECT_TRUE(
      InsertNode(NodeOf(R"(node_name: "f" raw {})"), "base", &config).ok());
  EXPECT_EQ(config.nodes(1).qcow2().backing(), "f");
  EXPECT_TRUE(DropNode("f", &config).ok());
  ExpectIs(config, kChain);
}

TEST(EditTest, SettingsAreMerged) {
  proto::Config config = ConfigOf(kChain);
  EXPECT_TRUE(ReopenNode("top", NodeOf(R"(discard: UNMAP qcow2 {
                                     l2_cache_size: "1M" })"),
                         &config)
                  .ok());
  ExpectIs(config, R"(
    nodes { node_name: "base" raw { file { filename: "b" } } }
    nodes { node_name: "top" discard: UNMAP
            qcow2 { file { filename: "t" } backing: "base"
                    l2_cache_size: "1M" } }
    exports { id: "disk" node: "top" fuse {} })");
}

TEST(EditTest, NodesAreReplaced) {
  proto::Config config = ConfigOf(kChain);
  EXPECT_TRUE(AddNode(NodeOf(R"(node_name: "other" null {})"), &config).ok());
  EXPECT_TRUE(ReplaceNode("base", "other", &config).ok());
  EXPECT_TRUE(RemoveNode("base", &config).ok());
  ExpectIs(config, R"(
    nodes { node_name: "top" qcow2 { file { filename: "t" } backing: "other" } }
    nodes { node_name: "other" null {} }
    exports { id: "disk" node: "top" fuse {} })");
}

TEST(EditTest, NodesInlineAreFound) {
  proto::Config config = ConfigOf(R"(
    nodes { node_name: "top" qcow2 { file { filename: "t" }
      backing_inline { node_name: "in" raw { file_node: "f" } } } }
    nodes { node_name: "f" file { filename: "b" } })");
  EXPECT_TRUE(ReopenNode("in", NodeOf("discard: UNMAP"), &config).ok());
  EXPECT_EQ(config.nodes(0).qcow2().backing_inline().discard(),
            proto::Discard::UNMAP);
  EXPECT_THAT(std::string(RemoveNode("f", &config).message()),
              HasSubstr(R"(node "f" is used by node "in")"));
  EXPECT_TRUE(
      InsertNode(NodeOf(R"(node_name: "w" raw {})"), "f", &config).ok());
  EXPECT_EQ(config.nodes(0).qcow2().backing_inline().raw().file_node(), "w");
}

TEST(EditTest, ExportsComeAndGo) {
  proto::Config config = ConfigOf(kChain);
  proto::Export item;
  EXPECT_TRUE(ParseExport(R"(id: "b" node: "base" fuse {})", &item).ok());
  EXPECT_TRUE(AddExport(item, &config).ok());
  EXPECT_EQ(config.exports_size(), 2);
  EXPECT_FALSE(AddExport(item, &config).ok());
  EXPECT_TRUE(RemoveExport("b", &config).ok());
  ExpectIs(config, kChain);
}

TEST(EditTest, WhatCannotBeDoneChangesNothing) {
  proto::Config config = ConfigOf(kChain);
  const proto::Node null = NodeOf(R"(node_name: "top" null {})");
  ExpectRefused(AddNode(null, &config), config, "already");
  ExpectRefused(AddNode(NodeOf("null {}"), &config), config, "no name");
  ExpectRefused(RemoveNode("base", &config), config, R"(used by node "top")");
  ExpectRefused(RemoveNode("top", &config), config, R"(used by export "disk")");
  ExpectRefused(RemoveNode("no", &config), config, "no node");
  ExpectRefused(ReopenNode("top", NodeOf("raw {}"), &config), config,
                "keeps its driver");
  ExpectRefused(ReopenNode("top", null, &config), config, "keeps its name");
  ExpectRefused(ReplaceNode("top", "no", &config), config, "no node");
  ExpectRefused(InsertNode(NodeOf(R"(node_name: "f" null {})"), "top", &config),
                config, "no filter");
  ExpectRefused(DropNode("top", &config), config, "no filter");
  ExpectRefused(DropNode("base", &config), config, "no filter");
  ExpectRefused(RemoveExport("no", &config), config, "no export");
}

TEST(EditTest, FileNamesAreResolved) {
  proto::Node node = NodeOf(R"(qcow2 { file { filename: "t" }
      backing_inline { raw { file { filename: "/abs" } } } })");
  ResolveFiles("/where", &node);
  EXPECT_EQ(node.qcow2().file().filename(), "/where/t");
  EXPECT_EQ(node.qcow2().backing_inline().raw().file().filename(), "/abs");
}

TEST(EditTest, AMistakeInATextHasAPlace) {
  proto::Node node;
  const absl::Status status = ParseNode("raw {\n nonsense: 1 }", &node);
  EXPECT_THAT(std::string(status.message()), HasSubstr("line 2"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("nonsense"));
}

}  // namespace
}  // namespace bgfs::config
