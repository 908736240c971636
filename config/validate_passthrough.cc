#include "config/validate_passthrough.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace bgfs::config {
namespace {

using proto::Export;
using proto::Fuse;
using proto::Node;

// Why a node cannot be gone past, and what to do; empty if it can.
std::string NodeMistake(const Node& node) {
  if (!node.has_raw() && !node.has_file()) {
    return "is not a file as it is; drop it";
  }
  if (node.raw().has_offset() || node.raw().has_size()) {
    return "shows a window; drop it, or offset and size";
  }
  if (node.detect_zeroes() != proto::DetectZeroes::OFF) {
    return "is to look for zeros in what goes past it; drop it, or "
           "detect_zeroes";
  }
  if (node.has_write_threshold()) {
    return "is to tell of writes that go past it; drop it, or "
           "write_threshold";
  }
  if (node.has_file() && node.cache().direct()) {
    return "has cache { direct: true }, which clients decide for themselves "
           "then; drop one of them";
  }
  return "";
}

class Checker {
 public:
  Checker(const Source& source, const FlatGraph& graph,
          const std::vector<Writer>& writers, std::vector<Diagnostic>* mistakes)
      : source_(source),
        graph_(graph),
        users_(graph.nodes.size()),
        written_by_(graph.nodes.size(), kNone),
        mistakes_(mistakes) {
    for (int i = 0; i < source.config.exports_size(); ++i) {
      const int top = Top(i);
      if (top != kNone) AddUser(top, {i, kNone});
    }
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      for (const FlatChild& child : graph.nodes[i].children) {
        if (child.target == kNone) continue;
        AddUser(child.target, {kNone, static_cast<int>(i)});
      }
    }
    for (const Writer& writer : writers) FollowWriter(writer);
  }

  void Check(int index) {
    const Export& item = source_.config.exports(index);
    CheckExport(index, item);
    const int top = Top(index);
    if (top == kNone || !CheckNode(index, top) ||
        !CheckAlone(index, top, {index, kNone}) ||
        !graph_.nodes[top].node.has_raw()) {
      return;
    }
    const int file = graph_.Child(top, Role::kFile);
    if (file == kNone || !CheckNode(index, file)) return;
    CheckAlone(index, file, {kNone, top});
  }

 private:
  // Of a node: one is kNone.
  struct User {
    int export_index;
    int node;
    bool operator==(const User&) const = default;
  };

  template <typename... Parts>
  void Report(int index, const Parts&... parts) {
    const Place place = source_.place()
                            .In(proto::Config::kExportsFieldNumber, index)
                            .In(Export::kFuseFieldNumber);
    const Export& item = source_.config.exports(index);
    mistakes_->push_back({place.Field(Fuse::kPassthroughFieldNumber),
                          absl::StrCat("export ", Quote(item.id()),
                                       " has passthrough", parts...)});
  }

  int Top(int index) const {
    const auto top = graph_.by_name.find(source_.config.exports(index).node());
    return top == graph_.by_name.end() ? kNone : top->second;
  }

  // Who looks for another than himself needs two.
  void AddUser(int node, User user) {
    if (users_[node].size() < 2) users_[node].push_back(user);
  }

  // Each node is marked once. Those that write by passthrough are told for
  // themselves.
  void FollowWriter(const Writer& writer) {
    if (writer.export_index == kNone ||
        source_.config.exports(writer.export_index).fuse().passthrough()) {
      return;
    }
    int node = writer.top;
    while (node != kNone && written_by_[node] == kNone) {
      written_by_[node] = writer.export_index;
      node = graph_.Child(node, Role::kFile);
    }
  }

  void CheckExport(int index, const Export& item) {
    // Where something could not be read it may be there.
    if (item.writable() && !item.fuse().resizable() && source_.errors.empty()) {
      Report(index,
             ": a write past the end makes the file longer, though the size is "
             "fixed; add resizable: true (--resizable), or let nobody write");
    }
    if (item.writethrough()) {
      Report(index,
             ", and writethrough cannot be kept for what goes that way; drop "
             "one of them");
    }
    if (item.fuse().cache() == proto::ReadCache::NONE) {
      Report(index,
             ", and cache: NONE, which brings reads here; drop one of them");
    }
  }

  bool CheckNode(int index, int node) {
    const std::string mistake = NodeMistake(graph_.nodes[node].node);
    if (mistake.empty()) return true;
    Report(index, ", but ", graph_.Describe(node), " ", mistake);
    return false;
  }

  // What is written by passthrough no other user would learn of in time; and
  // another that writes may change a size that clients then do not see.
  bool CheckAlone(int index, int node, User self) {
    if (!source_.config.exports(index).writable()) {
      const int writer = written_by_[node];
      if (writer == kNone) return true;
      Report(index, ", but ", DescribeUser({writer, kNone}), " writes to ",
             graph_.Describe(node), "; drop one of them");
      return false;
    }
    for (const User& user : users_[node]) {
      // An image that rests on it is told of by another rule.
      if (user == self ||
          (user.node != kNone && graph_.nodes[user.node].node.has_qcow2())) {
        continue;
      }
      Report(index, " and is writable, but ", DescribeUser(user), " uses ",
             graph_.Describe(node), " as well; drop one of them");
      return false;
    }
    return true;
  }

  std::string DescribeUser(User user) const {
    if (user.node != kNone) return graph_.Describe(user.node);
    return absl::StrCat("export ",
                        Quote(source_.config.exports(user.export_index).id()));
  }

  const Source& source_;
  const FlatGraph& graph_;
  std::vector<std::vector<User>> users_;  // by node
  std::vector<int> written_by_;           // by node: an export
  std::vector<Diagnostic>* const mistakes_;
};

}  // namespace

void CheckPassthrough(const Source& source, const FlatGraph& graph,
                      const std::vector<Writer>& writers,
                      std::vector<Diagnostic>* mistakes) {
  Checker checker(source, graph, writers, mistakes);
  for (int i = 0; i < source.config.exports_size(); ++i) {
    if (source.config.exports(i).fuse().passthrough()) checker.Check(i);
  }
}

}  // namespace bgfs::config
