// ClusterCache: reads compressed clusters, and keeps the last few of them
// decompressed, so that sixteen reads of 4 KiB decompress a cluster once.
//
//   part of a cluster ──▶ cached? copy : load, shared by all who want it, copy
//   a whole cluster   ──▶ cached? copy : straight into the reader's memory
//
// Decompression runs on the pool of worker threads. How many clusters are in
// the works at once is bounded, and so is the memory for them.

#ifndef BGFS_DRIVERS_QCOW2_CLUSTER_CACHE_H_
#define BGFS_DRIVERS_QCOW2_CLUSTER_CACHE_H_

#include <cstdint>
#include <deque>
#include <memory>

#include "drivers/qcow2/format.h"
#include "drivers/qcow2/mapping.h"
#include "drivers/qcow2/slots.h"
#include "drivers/qcow2/types.h"
#include "graph/async/buffer.h"
#include "graph/async/sync.h"
#include "graph/node.h"
#include "graph/statistics.h"

namespace bgfs::qcow2 {

// Owned by the driver of the image, used at its home only.
class ClusterCache {
 public:
  // `file` and `mapping`, which is told of damage, outlive the cache.
  ClusterCache(Child* file, Mapping* mapping, Geometry geometry,
               CompressionType type);

  // Fills `data` with what a lookup found: a part of one compressed cluster,
  // data.size() == extent.bytes. EIO for damage, or what reading met.
  Task<IoStatus> Read(Request& request, Extent extent, IoView data);

  void Clear() { clusters_.clear(); }
  // Of reads of a part of a cluster; whole ones pass by.
  const CacheStatistics& statistics() const { return statistics_; }

 private:
  struct Cluster {
    HostOffset host;
    AlignedBuffer data;
    bool loaded = false;
    IoStatus status;
    WaitQueue waiters;
  };

  std::shared_ptr<Cluster> Find(HostOffset host);
  Task<IoStatus> LoadShared(Request& request, Extent extent,
                            std::shared_ptr<Cluster> cluster);
  Task<IoStatus> ReadWhole(Request& request, Extent extent, IoView data);
  Task<IoStatus> Unpack(Request& request, Extent extent, char* to);

  Child* const file_;
  Mapping* const mapping_;
  const Geometry geometry_;
  const CompressionType type_;
  const size_t capacity_;  // clusters
  Slots slots_;
  // The most recently used first. Host offsets tell compressed clusters apart:
  // each has its own, and nothing is rewritten while the image is read-only.
  std::deque<std::shared_ptr<Cluster>> clusters_;
  CacheStatistics statistics_ = {.name = "clusters"};
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CLUSTER_CACHE_H_
