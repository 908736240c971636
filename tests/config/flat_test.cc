#include "config/flat.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "config/load.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(FlatTest, InlineChildrenBecomeNodesAndInherit) {
  const Source source = LoadText(
      R"(nodes {
           node_name: "top" force_share: true cache { direct: true }
           qcow2 {
             file { filename: "top" cache { no_flush: true } }
             backing_inline {
               cache { direct: false }
               raw { file { filename: "/base" } }
             }
           }
         })",
      "c", "/folder");
  const FlatGraph graph = Flatten(source);
  ASSERT_THAT(graph.nodes, SizeIs(4));
  const FlatNode& top = graph.nodes[0];
  EXPECT_FALSE(top.node.has_discard());
  EXPECT_FALSE(top.node.qcow2().has_file());
  EXPECT_FALSE(top.node.qcow2().has_backing_inline());
  EXPECT_FALSE(top.node.cache().no_flush());
  const FlatNode& file = graph.nodes[graph.Child(0, Role::kFile)];
  EXPECT_EQ(file.node.file().filename(), "/folder/top");
  EXPECT_FALSE(file.node.file().has_cache());
  EXPECT_TRUE(file.node.cache().direct());
  EXPECT_TRUE(file.node.cache().no_flush());
  EXPECT_TRUE(file.node.force_share());
  EXPECT_EQ(file.node.discard(), proto::Discard::UNMAP);
  const int backing = graph.Child(0, Role::kBacking);
  EXPECT_FALSE(graph.nodes[backing].node.cache().direct());
  const FlatNode& base = graph.nodes[graph.Child(backing, Role::kFile)];
  EXPECT_EQ(base.node.file().filename(), "/base");
  EXPECT_FALSE(base.node.cache().direct());
  EXPECT_TRUE(base.node.force_share());
  EXPECT_EQ(graph.Describe(0), "node \"top\"");
  EXPECT_EQ(graph.Describe(backing), "the backing of node \"top\"");
  EXPECT_EQ(graph.Describe(graph.Child(backing, Role::kFile)),
            "an inline node");
}

TEST(FlatTest, NamedNodesInheritNothing) {
  const Source source = LoadText(
      R"(nodes { node_name: "r" force_share: true cache { direct: true }
                 raw { file_node: "f" } }
         nodes { node_name: "f" file { filename: "x" } })",
      "c", "/folder");
  const FlatGraph graph = Flatten(source);
  ASSERT_EQ(graph.Child(0, Role::kFile), 1);
  EXPECT_FALSE(graph.nodes[1].node.has_cache());
  EXPECT_FALSE(graph.nodes[1].node.force_share());
  EXPECT_FALSE(graph.nodes[1].node.has_discard());
}

// nodes "0" ... of raw drivers, each over the node that `edges` gives.
std::string RawNodes(const std::vector<std::string>& edges) {
  std::string text;
  for (size_t i = 0; i < edges.size(); ++i) {
    absl::StrAppend(&text, "nodes { node_name: \"", i, "\" raw { file_node: \"",
                    edges[i], "\" } }\n");
  }
  return text;
}

TEST(FlatTest, ChildrenComeFirst) {
  const Source source = LoadText(RawNodes({"2", "", "1", "0"}), "c", "/");
  const Order order = ChildrenFirst(Flatten(source));
  EXPECT_THAT(order.nodes, ElementsAre(1, 2, 0, 3));
  EXPECT_THAT(order.cycles, IsEmpty());
}

TEST(FlatTest, CyclesAreFoundOnce) {
  // 0 -> 1 -> 2 -> 1, 3 -> 3, 4 -> 0.
  const Source source = LoadText(RawNodes({"1", "2", "1", "3", "0"}), "c", "/");
  const FlatGraph graph = Flatten(source);
  const Order order = ChildrenFirst(graph);
  EXPECT_THAT(order.nodes, SizeIs(5));
  EXPECT_THAT(order.cycles, ElementsAre(ElementsAre(1, 2), ElementsAre(3)));
}

TEST(FlatTest, FirstBelowFollowsFiles) {
  // 0 -> 1 -> 2, 3 -> 2; 4 -> 4.
  const Source source = LoadText(RawNodes({"1", "2", "", "2", "4"}), "c", "/");
  const FlatGraph graph = Flatten(source);
  EXPECT_THAT(FirstBelow(graph, [](int node) { return node == 1; }),
              ElementsAre(1, 1, kNone, kNone, kNone));
  EXPECT_THAT(FirstBelow(graph, [](int node) { return node == 2; }),
              ElementsAre(2, 2, 2, 2, kNone));
}

TEST(FlatTest, TheLongestChainNeedsNoStack) {
  std::vector<std::string> edges;
  for (int i = 1; i <= 15000; ++i) edges.push_back(absl::StrCat(i));
  edges.push_back("0");
  const std::string text = RawNodes(edges);
  ASSERT_LE(text.size(), kMaxConfigBytes);
  const Order order = ChildrenFirst(Flatten(LoadText(text, "c", "/")));
  EXPECT_THAT(order.nodes, SizeIs(15001));
  EXPECT_THAT(order.cycles, ElementsAre(SizeIs(15001)));
}

}  // namespace
}  // namespace bgfs::config
