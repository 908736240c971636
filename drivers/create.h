// Opening nodes: from a message of the configuration to a node in the graph.
// This is the one place that knows all drivers.

#ifndef BGFS_DRIVERS_CREATE_H_
#define BGFS_DRIVERS_CREATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "drivers/open_context.h"
#include "graph/graph.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

// So many images may stand on each other by what their headers name.
inline constexpr int kMaxChainDepth = 1024;
// The images of such a chain share two bounds of memory, so that a thousand
// small files cannot ask for a thousand times what one may: what their headers
// and L1 tables take is at most so much, or the chain is refused,
inline constexpr int64_t kMaxChainTableBytes = int64_t{256} << 20;
// and so is what their L2 caches take, where no size is configured.
inline constexpr int64_t kMaxChainCacheBytes = int64_t{256} << 20;

// Opens `spec`, its inline children and, for a qcow2 without a backing, the
// chain that its header names; children that are named must be in the graph.
// At the graph's home. Sizes are plain numbers of bytes; a node that does not
// say whether it is read_only is; file names are used as they stand.
//
// An image that a header names may be open in the graph already, for reading
// and in the same way: then its node is shared, unless the qcow2 says
// share_base: false.
//
// When it fails nothing is left: what it opened is closed and taken back. The
// message is one line: which file or node, what, and what to do.
Task<absl::StatusOr<Node*>> OpenNode(Graph& graph, const proto::Node& spec,
                                     const OpenContext& context);

// A driver for a node that is to be reopened with these settings
// (transaction.h). It is not open, and finds its children when it is. Of a
// qcow2, what its header names is not opened.
absl::StatusOr<std::unique_ptr<Driver>> MakeDriver(const proto::Node& spec,
                                                   const OpenContext& context);

// What the engine itself does for a node.
NodeOptions OptionsOf(const proto::Node& spec);
// Bytes; 0 for none. INVALID_ARGUMENT where it is no number of bytes.
absl::StatusOr<int64_t> WriteThresholdOf(const proto::Node& spec);

// Which file of the host it is.
struct FileIdentity {
  std::string name;
  uint64_t device = 0;
  uint64_t inode = 0;
};

// Of a `file` node its file; of a qcow2 image, the last of `specs` (before it
// comes what its file stands on), the files that its header leads to, none
// where a backing is configured. They are opened in passing, without locks and
// for reading only. `specs` are complete as in OpenNode(). On `loop`.
Task<absl::StatusOr<std::vector<FileIdentity>>> FindHostFiles(
    Loop* loop, std::vector<proto::Node> specs, OpenContext context);

}  // namespace bgfs

#endif  // BGFS_DRIVERS_CREATE_H_
