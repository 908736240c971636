// StatusCache: the last extent that a protocol node was found to hold data in
// (engine.md, 2.9). Looking it up takes system calls, and who walks an image
// asks for the same extent again and again, a piece at a time.
//
// Only data is remembered, since a write never makes anything else of it. What
// may (zeros, discards, truncates) forgets it when it ends; a query that ran
// meanwhile saw either, and is not remembered.

#ifndef BGFS_GRAPH_STATUS_CACHE_H_
#define BGFS_GRAPH_STATUS_CACHE_H_

#include <cstdint>

#include "graph/types.h"

namespace bgfs {

// Used at home.
class StatusCache {
 public:
  // How many bytes from `offset` on are known to be data; 0: not known.
  int64_t DataFrom(int64_t offset) const {
    return offset >= data_.offset && offset < data_.end() ? data_.end() - offset
                                                          : 0;
  }
  // When a query begins; remembers what it found, unless something was
  // forgotten since.
  int64_t epoch() const { return epoch_; }
  void Remember(const Range& data, int64_t epoch) {
    if (epoch == epoch_) data_ = data;
  }
  void Forget(const Range& range) {
    ++epoch_;
    if (data_.Overlaps(range)) data_ = Range{};
  }

 private:
  Range data_;
  int64_t epoch_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_STATUS_CACHE_H_
