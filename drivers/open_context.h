// What opening a node needs to know besides the node's own message, and where
// it tells people what is not an error.

#ifndef BGFS_DRIVERS_OPEN_CONTEXT_H_
#define BGFS_DRIVERS_OPEN_CONTEXT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "drivers/throttle_group.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

// Takes one line, without a newline. Called on the graph's home loop, while a
// node is opened and as long as it is open; must not wait. May be empty.
using WarningSink = std::function<void(absl::string_view)>;

struct OpenContext {
  // Where a name found in an image's header may lead.
  proto::ImplicitFiles::Policy implicit_files = proto::ImplicitFiles::SAME_DIR;
  // Folders (and everything below them) where it may lead besides.
  std::vector<std::string> allow_implicit;
  // The node that is opened, and what its header names, are open so many times
  // in this daemon; together they have the memory that one may have for caches.
  int copies = 1;
  int named_copies = 1;
  // Where nodes find the groups that they name; null for none.
  std::shared_ptr<const ThrottleGroups> throttle_groups;
  // Drivers keep a copy.
  WarningSink warn;
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_OPEN_CONTEXT_H_
