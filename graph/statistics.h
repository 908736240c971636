// NodeStatistics: what a node has done since it was opened. Counted when a
// request ends, before the reply; requests that were refused before they ran
// are not counted.

#ifndef BGFS_GRAPH_STATISTICS_H_
#define BGFS_GRAPH_STATISTICS_H_

#include <cstdint>

#include "graph/async/io_status.h"

namespace bgfs {

struct NodeStatistics {
  struct Operations {
    int64_t operations = 0;  // failed ones included
    int64_t bytes = 0;       // of those that succeeded
    int64_t errors = 0;

    void Count(int64_t size_bytes, IoStatus status) {
      ++operations;
      if (status.ok()) {
        bytes += size_bytes;
      } else {
        ++errors;
      }
    }
  };

  Operations reads;
  Operations writes;
  Operations zeros;
  Operations discards;
  Operations copies;     // as the target, offloaded
  Operations truncates;  // no bytes
  Operations flushes;    // no bytes; all that were asked for
  // Of those, so many waited for a flush that others had asked for too.
  int64_t flushes_coalesced = 0;
  // How often a request waited for another one (engine.md, 2.2).
  int64_t serialising_waits = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_STATISTICS_H_
