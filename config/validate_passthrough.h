// The rules of Fuse.passthrough: what goes past the daemon must be the bytes of
// a file as they are, must be nobody else's, and can be changed by no setting.
#ifndef BGFS_CONFIG_VALIDATE_PASSTHROUGH_H_
#define BGFS_CONFIG_VALIDATE_PASSTHROUGH_H_

#include <vector>

#include "config/diagnostic.h"
#include "config/flat.h"
#include "config/source.h"

namespace bgfs::config {

// Adds what is wrong. In linear time.
void CheckPassthrough(const Source& source, const FlatGraph& graph,
                      const std::vector<Writer>& writers,
                      std::vector<Diagnostic>* mistakes);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_VALIDATE_PASSTHROUGH_H_
