// What makes throttles wrong: groups, what nodes say of theirs, and limits.
#ifndef BGFS_CONFIG_VALIDATE_THROTTLE_H_
#define BGFS_CONFIG_VALIDATE_THROTTLE_H_

#include <vector>

#include "config/diagnostic.h"
#include "config/flat.h"
#include "config/source.h"

namespace bgfs::config {

// Appends the mistakes. Part of Validate().
void CheckThrottles(const Source& source, const FlatGraph& graph,
                    std::vector<Diagnostic>* mistakes);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_VALIDATE_THROTTLE_H_
