// Which overlays stand on one base by what their headers name. The
// configuration does not say; the files do, before they are opened.
//
//   part 0: a ──▶ (header: base.img)                 part 0: a ─▶┐
//   part 1: b ──▶ (header: ./link to base.img)  ──▶          b ─▶┴─ base.img
//
// Parts whose overlays share a base become one, so that opening them finds the
// base in their graph. Nothing is wrong where what is read here is not what is
// opened later: then it is not shared.
#ifndef BGFS_CONFIG_SHARED_BASES_H_
#define BGFS_CONFIG_SHARED_BASES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/plan.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

struct NamedFile {
  std::string name;
  uint64_t device = 0;
  uint64_t inode = 0;
};

// Looks at the host. Given a `file` node: that file. Given what a qcow2 node's
// file stands on and then that node: the files that its header leads to.
using FindFiles = absl::FunctionRef<absl::StatusOr<std::vector<NamedFile>>(
    const std::vector<proto::Node>&)>;

// Joins parts of the plan, and counts how often bases are open. What `find`
// fails at is left as it is: opening it tells. The error is that something
// writes to a file that an image rests on; it names both.
absl::Status JoinSharedBases(FindFiles find, Plan* plan);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_SHARED_BASES_H_
