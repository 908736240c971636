// What makes the rules and the limits of blkdebug nodes wrong.
#ifndef BGFS_CONFIG_VALIDATE_BLKDEBUG_H_
#define BGFS_CONFIG_VALIDATE_BLKDEBUG_H_

#include <vector>

#include "config/diagnostic.h"
#include "config/flat.h"

namespace bgfs::config {

// Appends the mistakes. `complete`: what is not there is missing. Part of
// Validate().
void CheckBlkdebugs(const FlatGraph& graph, bool complete,
                    std::vector<Diagnostic>* mistakes);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_VALIDATE_BLKDEBUG_H_
