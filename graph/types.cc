#include "graph/types.h"

#include <algorithm>
#include <array>

#include "graph/async/check.h"

namespace bgfs {

std::string PermissionNames(Permissions permissions) {
  static constexpr std::array<const char*, kPermissionCount> kNames = {
      "consistent read", "write", "write unchanged", "resize"};
  std::string names;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if ((permissions & (1u << i)) == 0) continue;
    if (!names.empty()) names += ", ";
    names += kNames[i];
  }
  return names.empty() ? "nothing" : names;
}

Range Range::Union(const Range& other) const {
  if (empty()) return other;
  if (other.empty()) return *this;
  return FromTo(std::min(offset, other.offset), std::max(end(), other.end()));
}

Range Range::AlignedTo(int64_t alignment) const {
  BGFS_CHECK(alignment > 0);
  if (empty()) return *this;
  const int64_t begin = AlignDown(offset, alignment);
  const int64_t last = end();
  if (last > kToInfinity - alignment) return FromTo(begin, kToInfinity);
  return FromTo(begin, AlignUp(last, alignment));
}

}  // namespace bgfs
