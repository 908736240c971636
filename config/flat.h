// The graph of a configuration as a list: every node, those written inline
// too, with edges as indexes. Validate and MakePlan both read it, so that what
// was checked is what will be opened.
//
// Flatten settles what does not depend on other nodes being right: inline
// children get what they inherit, file names become absolute. It never fails:
// what is wrong in the configuration is still wrong, and visible, in the list.
#ifndef BGFS_CONFIG_FLAT_H_
#define BGFS_CONFIG_FLAT_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "config/source.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

// No node: an edge that leads nowhere, a parent that is not there.
inline constexpr int kNone = -1;

enum class Role { kFile, kBacking };

// An edge to a child.
struct FlatChild {
  Role role = Role::kFile;
  // As written; empty for an inline child.
  std::string name;
  // The index of the child, or kNone where no node has that name.
  int target = kNone;
  Position at;
};

struct FlatNode {
  // The node without its children. An inline File has become a node of its own;
  // cache and force_share are what holds after inheriting, and File.cache has
  // been merged into cache.
  proto::Node node;
  // The parent it is written in, or kNone.
  int parent = kNone;
  // Its role there.
  Role role = Role::kFile;
  std::vector<FlatChild> children;
  // So many nodes are open that are copies of one, this among them.
  int copies = 1;

  // Where it was written; for an inline file, the place of the File.
  Place place;
  // Its driver's message.
  Place driver;
  // The message at `place`, null for an inline file.
  const proto::Node* written = nullptr;
};

// Why nodes are opened for writing: an export that is writable, or a node that
// says read_only: false.
struct Writer {
  // Indexes into Config.exports and the nodes; one of them is kNone.
  int export_index = kNone;
  int node = kNone;
  // The node it writes to, and through that to the file below and so on.
  int top = kNone;
  // The first of these that cannot be written, kNone if all can.
  int blocked_at = kNone;
};

struct FlatGraph {
  std::vector<FlatNode> nodes;
  // Of several nodes with one name, the first.
  absl::flat_hash_map<std::string, int> by_name;

  // The child in a role, or kNone.
  int Child(int node, Role role) const;
  // `node "top"`, `the file of node "top"`.
  std::string Describe(int node) const;
};

// `source` must outlive the result.
FlatGraph Flatten(const Source& source);

inline constexpr size_t kMaxCycles = 16;

struct Order {
  // Every node once, children before parents, otherwise as written. What lies
  // on or above a cycle is there too, in an order that means nothing.
  std::vector<int> nodes;
  // Cycles as their nodes in order, the first one not repeated; at least one if
  // there are any, and no more than kMaxCycles.
  std::vector<std::vector<int>> cycles;
};

Order ChildrenFirst(const FlatGraph& graph);

// For each node, the first of itself, its file, the file's file... for which
// `wanted` is true, or kNone. On a cycle it may miss some.
std::vector<int> FirstBelow(const FlatGraph& graph,
                            absl::FunctionRef<bool(int)> wanted);

std::vector<Writer> Writers(const FlatGraph& graph,
                            const proto::Config& config);

// Whether each node is opened for writing: those that writers reach which are
// not blocked.
std::vector<bool> OpenedForWriting(const FlatGraph& graph,
                                   const std::vector<Writer>& writers);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_FLAT_H_
