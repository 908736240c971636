// What makes a configuration wrong, told all at once.
#ifndef BGFS_CONFIG_VALIDATE_H_
#define BGFS_CONFIG_VALIDATE_H_

#include <vector>

#include "config/diagnostic.h"
#include "config/source.h"

namespace bgfs::config {

// Every mistake, those of the text included, in the order of their places;
// empty if MakePlan may have the source. Pure: no file is looked at, so what
// only the host can tell (a missing file, an image that is locked) comes later.
//
// A text with fields that nobody knows is checked all the same, but then
// nothing is called missing: the unknown field may be it, misspelt.
std::vector<Diagnostic> Validate(const Source& source);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_VALIDATE_H_
