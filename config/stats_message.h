// Statistics as messages (proto/control.proto), both ways.

#ifndef BGFS_CONFIG_STATS_MESSAGE_H_
#define BGFS_CONFIG_STATS_MESSAGE_H_

#include "graph/export.h"
#include "graph/histogram.h"
#include "graph/node.h"
#include "proto/control.pb.h"

namespace bgfs::config {

// At home, of one that is not shutting down.
control::ExportStats ToMessage(const BlockExport& block_export);
// At home.
control::NodeStats ToMessage(const Node& node);

// A message may have come from anywhere: counts and bounds that cannot be are
// cut to what can.
Histogram ToHistogram(const control::LatencyStats& latency);

// The one of a kind; an empty one if there is none.
template <typename Stats>
const control::OperationStats& OfKind(const Stats& stats,
                                      control::OperationStats::Kind kind) {
  for (const control::OperationStats& item : stats.operations()) {
    if (item.kind() == kind) return item;
  }
  return control::OperationStats::default_instance();
}

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_STATS_MESSAGE_H_
