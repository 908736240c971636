#include "graph/async/check.h"

#include <cstdio>
#include <cstdlib>

namespace bgfs {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "bgfs: bug at %s:%d: %s does not hold\n", file, line,
               condition);
  std::abort();
}

}  // namespace bgfs
