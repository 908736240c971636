// bgfs graph: what a running daemon has, as a tree, a picture or JSON.

#include <iostream>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "config/cli/find.h"
#include "config/cli/verb.h"
#include "config/control.h"
#include "config/diagnostic.h"

namespace bgfs::cli {
namespace {

// "top  qcow2  rw  67108864 bytes"
std::string Line(const control::GraphNode& node) {
  std::string line =
      absl::StrFormat("%s  %s  %s  %d bytes", node.name(), node.driver(),
                      node.read_only() ? "ro" : "rw", node.size_bytes());
  if (!node.filename().empty()) absl::StrAppend(&line, "  ", node.filename());
  return line;
}

class Tree {
 public:
  explicit Tree(const control::GraphReply& graph) {
    for (const control::GraphNode& node : graph.nodes()) {
      nodes_[node.name()] = &node;
      for (const control::GraphEdge& child : node.children()) {
        below_.insert(child.node());
      }
    }
  }

  void Print(const control::GraphReply& graph) {
    for (const control::GraphNode& node : graph.nodes()) {
      for (const control::GraphEdge& item : node.exports()) {
        std::cout << "export " << item.name() << " ("
                  << absl::StrJoin(item.uses(), ", ") << ")\n";
        PrintNode(item.node(), "", 1);
      }
    }
    for (const control::GraphNode& node : graph.nodes()) {
      if (node.exports().empty() && !below_.contains(node.name())) {
        PrintNode(node.name(), "", 0);
      }
    }
  }

 private:
  void PrintNode(const std::string& name, const std::string& edge,
                 size_t depth) {
    const control::GraphNode& node = *nodes_.at(name);
    std::cout << std::string(2 * depth, ' ') << edge;
    if (!printed_.insert(name).second) {
      std::cout << name << "  (see above)\n";
      return;
    }
    std::cout << Line(node) << "\n";
    for (const control::GraphEdge& child : node.children()) {
      PrintNode(child.node(), absl::StrCat(child.name(), ": "), depth + 1);
    }
  }

  std::map<std::string, const control::GraphNode*> nodes_;
  std::set<std::string> below_;
  std::set<std::string> printed_;
};

// In the language of Graphviz, where config::Quote() quotes as well.
void PrintDot(const control::GraphReply& graph) {
  using config::Quote;
  std::cout << "digraph bgfs {\n  node [shape=box]\n";
  for (const control::GraphNode& node : graph.nodes()) {
    const std::string what = absl::StrCat(
        node.name(), "\n", node.driver(), node.read_only() ? ", read-only" : "",
        node.filename().empty() ? "" : absl::StrCat("\n", node.filename()));
    std::cout << "  " << Quote(node.name()) << " [label=" << Quote(what)
              << "]\n";
    for (const control::GraphEdge& child : node.children()) {
      const std::string label =
          absl::StrCat(child.name(), "\n", absl::StrJoin(child.uses(), ", "));
      std::cout << "  " << Quote(node.name()) << " -> " << Quote(child.node())
                << " [label=" << Quote(label) << "]\n";
    }
    for (const control::GraphEdge& item : node.exports()) {
      const std::string id = absl::StrCat("export ", item.name());
      std::cout << "  " << Quote(id) << " [shape=note]\n  " << Quote(id)
                << " -> " << Quote(item.node())
                << " [label=" << Quote(absl::StrJoin(item.uses(), ", "))
                << "]\n";
    }
  }
  std::cout << "}\n";
}

}  // namespace

ExitStatus RunGraph(const Arguments& arguments) {
  CLI::App app(
      "Shows the live graph of a running bgfs: exports, the nodes below them "
      "and what these\nstand on, with the rights that each uses.",
      "bgfs graph");
  std::string path;
  bool dot = false;
  bool json = false;
  app.add_option("DIR", path,
                 "Where the daemon shows its exports; may be left out where "
                 "only one serves a configuration");
  auto* dot_flag = app.add_flag("--dot", dot,
                                "A picture, for dot(1): bgfs graph --dot | "
                                "dot -Tsvg");
  app.add_flag("--json", json, "One JSON object")->excludes(dot_flag);
  if (auto ended = Parse(&app, arguments)) return *ended;

  if (absl::Status s = config::CheckDescriptors(); !s.ok()) return Fail(s);
  const auto daemon = FindServing(path, /*config_file=*/"");
  if (!daemon.ok()) return Fail(daemon.status());
  const absl::StatusOr<control::GraphReply> graph =
      config::RequestGraph(*daemon);
  if (!graph.ok()) return Fail(graph.status());
  if (json) {
    std::cout << Json(*graph) << "\n";
  } else if (dot) {
    PrintDot(*graph);
  } else {
    Tree(*graph).Print(*graph);
  }
  if (graph->silent_homes() == 0) return kFine;
  return Fail(absl::StrCat(graph->silent_homes(),
                           " homes did not answer: their disks may hang"));
}

}  // namespace bgfs::cli
