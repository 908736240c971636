// Opener: one call of OpenNode(). It keeps what was added, so that a failure
// can take it back. create.cc has the switch over the drivers,
// create_filters.cc the filters, chain.cc the images that stand on others. For
// drivers/ only.

#ifndef BGFS_DRIVERS_OPENER_H_
#define BGFS_DRIVERS_OPENER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "drivers/create.h"
#include "drivers/open_context.h"
#include "drivers/qcow2/qcow2.h"
#include "graph/graph.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

class Opener {
 public:
  // Both outlive it.
  Opener(Graph& graph, const OpenContext& context)
      : graph_(graph), context_(context) {}
  Opener(const Opener&) = delete;
  Opener& operator=(const Opener&) = delete;

  struct Edge {
    std::string name;
    ChildRole role;
    Node* node;
  };

  Graph& graph() { return graph_; }
  const OpenContext& context() const { return context_; }

  // Opens a node with everything inline below it. Whatever the result, what was
  // added is kept until Undo().
  Task<absl::StatusOr<Node*>> Open(proto::Node spec);
  // Finds a node that is open already.
  absl::StatusOr<Node*> Find(absl::string_view name) const;
  // The child `file` or `file_node` of a driver's message.
  template <typename Message>
  Task<absl::StatusOr<Node*>> OpenFileChild(const proto::Node& parent,
                                            const Message& message) {
    if (message.has_file_node()) co_return Find(message.file_node());
    co_return co_await OpenInlineFile(parent, message.file());
  }

  // Adds a node and its edges, then opens its driver.
  Task<absl::StatusOr<Node*>> Add(const proto::Node& spec,
                                  std::unique_ptr<Driver> driver,
                                  std::vector<Edge> edges);

  // Closes and takes back all that was added.
  Task<void> Undo();

  // The file node of an image that a header names: `file`, or if another node
  // has opened that file in the same way, that one; then `file`, the last that
  // was added, is taken back.
  Task<Node*> ShareFile(Node* file);
  // A node of the graph that is what OpenNode() would make of `file`, or null.
  // `below`: the backing of a qcow2, null for none and for "raw".
  Node* FindFormat(absl::string_view format, const proto::Node& spec,
                   const Node* file, const Node* below) const;

  // The files that a header leads to. What was added stays.
  Task<absl::StatusOr<std::vector<FileIdentity>>> FindNamedFiles(
      const proto::Node& spec);  // chain.cc

 private:
  Task<absl::StatusOr<Node*>> OpenDriver(const proto::Node& spec);
  Task<absl::StatusOr<Node*>> OpenLeaf(const proto::Node& spec);
  Task<absl::StatusOr<Node*>> OpenRaw(const proto::Node& spec);
  Task<absl::StatusOr<Node*>> OpenQcow2(const proto::Node& spec);  // chain.cc
  Task<absl::StatusOr<Node*>> OpenFilter(
      const proto::Node& spec);  // create_filters.cc
  Task<absl::StatusOr<Node*>> OpenFilterChild(const proto::Node& spec);
  // The child `file_node` or `file_inline` of a filter's message.
  template <typename Message>
  Task<absl::StatusOr<Node*>> OpenChild(const proto::Node& parent,
                                        const Message& message) {
    if (message.has_file_node()) co_return Find(message.file_node());
    co_return co_await OpenInlineNode(parent, message.file_inline());
  }
  Task<absl::StatusOr<Node*>> OpenInlineNode(const proto::Node& parent,
                                             proto::Node child);
  Task<absl::StatusOr<Node*>> OpenInlineFile(const proto::Node& parent,
                                             const proto::File& file);
  absl::StatusOr<Node*> AddNode(const proto::Node& spec,
                                std::unique_ptr<Driver> driver,
                                std::vector<Edge> edges);
  Task<void> TakeBackLast();

  Graph& graph_;
  const OpenContext& context_;
  std::vector<Node*> added_;
};

// `child` is written inline in `parent`: what it does not say it inherits.
void Inherit(const proto::Node& parent, proto::Node* child);

// A filter's driver (create_filters.cc).
absl::StatusOr<std::unique_ptr<Driver>> MakeFilter(const proto::Node& spec,
                                                   const OpenContext& context);

// Its settings; `name` is what messages call it.
absl::StatusOr<qcow2::Options> Qcow2OptionsOf(const proto::Node& spec,
                                              const OpenContext& context,
                                              const std::string& name);

// A size or an offset of a message; `field` is its name.
absl::StatusOr<int64_t> ParseBytes(absl::string_view field,
                                   absl::string_view text);

// The status with `context` and a colon before its message.
absl::Status Prefix(absl::string_view context, const absl::Status& status);

}  // namespace bgfs

#endif  // BGFS_DRIVERS_OPENER_H_
