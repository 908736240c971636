// What has been done, counted at home: by a node since it was opened, for the
// user of a backend since that was made, and by a driver's caches.

#ifndef BGFS_GRAPH_STATISTICS_H_
#define BGFS_GRAPH_STATISTICS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "graph/async/io_status.h"
#include "graph/histogram.h"

namespace bgfs {

struct OperationCounts {
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

// Counted when a request ends, before the reply; requests that were refused
// before they ran are not counted. Without latencies: a look at the clock
// costs as much as passing a node.
struct NodeStatistics {
  OperationCounts reads;
  OperationCounts writes;
  OperationCounts zeros;
  OperationCounts discards;
  OperationCounts copies;     // as the target, offloaded
  OperationCounts truncates;  // no bytes
  OperationCounts flushes;    // no bytes; all that were asked for
  // Of those, so many waited for a flush that others had asked for too.
  int64_t flushes_coalesced = 0;
  // How often a request waited for another one (engine.md, 2.2).
  int64_t serialising_waits = 0;
};

// As the user of a backend saw it: each request is counted once it is answered,
// one that was refused too.
//
// Latency, in nanoseconds, begins when the loop last looked at its clock before
// the request arrived (Loop::RecentNs()), so what a request waited behind
// others that arrived in the same turn counts, and what was parked in a drain
// does too. The way from another loop does not. It ends with the answer: one
// look at the clock for each request.
struct BackendStatistics {
  struct Timed : OperationCounts {
    Histogram latency_ns;
  };

  Timed reads;
  Timed writes;
  Timed zeros;
  Timed discards;
  Timed copies;     // into it
  Timed truncates;  // no bytes
  Timed flushes;    // no bytes

  int64_t max_in_flight = 0;
  // Those that a closed gate kept waiting, and how long: a part of their
  // latency.
  struct Parked {
    int64_t now = 0;
    int64_t requests = 0;  // in all, once let in
    int64_t total_ns = 0;
    int64_t longest_ns = 0;

    void LetIn(int64_t waited_ns) {
      --now;
      ++requests;
      total_ns += waited_ns;
      longest_ns = std::max(longest_ns, waited_ns);
    }
  };
  Parked parked;
};

struct CacheStatistics {
  absl::string_view name;  // a constant
  int64_t hits = 0;
  int64_t misses = 0;     // what was wanted had to be read
  int64_t evictions = 0;  // something made room for something else
};

// What only a driver knows, and only some do (Driver::AddStatistics()).
struct DriverStatistics {
  std::vector<CacheStatistics> caches;
  // After a failed flush every later one fails (engine.md, 2.7): what the first
  // failed with.
  IoStatus failed_flush;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_STATISTICS_H_
