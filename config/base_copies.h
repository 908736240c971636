// share_base: false. An overlay that says so stands on nodes of its own, which
// are copies of those that its `backing` names:
//
//   a ──▶ base ◀── b            a ──▶ copy of base       copy of base ◀── b
//
// What was named is left out where nothing else uses it. What headers name is
// not in the configuration; config/shared_bases.h sees to it.
#ifndef BGFS_CONFIG_BASE_COPIES_H_
#define BGFS_CONFIG_BASE_COPIES_H_

#include "config/flat.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

// So many nodes may be copied for all overlays together.
inline constexpr int kMaxBaseCopies = 10000;

// Whether the backing of a node is to be its own.
bool HasOwnBase(const FlatNode& flat);

// The nodes at and below `top`, each once.
std::vector<int> NodesFrom(const FlatGraph& graph, int top);

// Makes the copies. `graph` is one in which Validate found nothing. Copies have
// no names, and exports are never of them.
void CopyBases(const proto::Config& config, FlatGraph* graph);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_BASE_COPIES_H_
