#include "drivers/qcow2/cluster_cache.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/types/span.h"
#include "drivers/qcow2/compression.h"
#include "graph/async/loop.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kCachedBytes = int64_t{1} << 20;
constexpr int64_t kInWorksBytes = int64_t{4} << 20;
constexpr int64_t kMinClusters = 2;
constexpr int64_t kMaxClusters = 16;
// Below it, decompressing takes no longer than handing the work over.
constexpr int64_t kInlineBytes = 4096;

int64_t ClustersIn(int64_t bytes, Geometry geometry) {
  return std::clamp(bytes / geometry.cluster_size(), kMinClusters,
                    kMaxClusters);
}

}  // namespace

ClusterCache::ClusterCache(Child* file, Mapping* mapping, Geometry geometry,
                           CompressionType type)
    : file_(file),
      mapping_(mapping),
      geometry_(geometry),
      type_(type),
      capacity_(static_cast<size_t>(ClustersIn(kCachedBytes, geometry))),
      slots_(ClustersIn(kInWorksBytes, geometry)) {}

std::shared_ptr<ClusterCache::Cluster> ClusterCache::Find(HostOffset host) {
  auto found =
      std::find_if(clusters_.begin(), clusters_.end(),
                   [&](const auto& cluster) { return cluster->host == host; });
  if (found == clusters_.end()) return nullptr;
  std::rotate(clusters_.begin(), found, found + 1);
  return clusters_.front();
}

// Decompresses the whole cluster to `to`.
Task<IoStatus> ClusterCache::Unpack(Request& request, Extent extent, char* to) {
  // What the file lacks of the last sector reads as zeros.
  AlignedBuffer input = AlignedBuffer::Allocate(extent.compressed_bytes);
  if (!input) co_return IoError(ENOMEM);
  BGFS_CO_TRY(
      co_await file_->Read(&request, extent.host.value(), input.view()));
  const absl::Span<const uint8_t> from(
      reinterpret_cast<const uint8_t*>(input.data()),
      static_cast<size_t>(input.size()));
  const absl::Span<uint8_t> cluster(
      reinterpret_cast<uint8_t*>(to),
      static_cast<size_t>(geometry_.cluster_size()));
  bool good = false;
  if (geometry_.cluster_size() <= kInlineBytes) {
    good = Decompress(type_, from, cluster);
  } else {
    auto work = [type = type_, from, cluster, &good] {
      good = Decompress(type, from, cluster);
    };
    co_await Loop::Current()->Run(Loop::Offload::kCompute, work);
  }
  if (good) co_return IoStatus();
  co_return mapping_->Fault(extent.start, "its compressed data is damaged");
}

Task<IoStatus> ClusterCache::ReadWhole(Request& request, Extent extent,
                                       IoView data) {
  const Slots::Guard slot = co_await slots_.Take();
  if (data.contiguous()) {
    co_return co_await Unpack(request, extent, data.data());
  }
  AlignedBuffer buffer = AlignedBuffer::Allocate(geometry_.cluster_size());
  if (!buffer) co_return IoError(ENOMEM);
  BGFS_CO_TRY(co_await Unpack(request, extent, buffer.data()));
  data.CopyFrom(buffer.data());
  co_return IoStatus();
}

Task<IoStatus> ClusterCache::LoadShared(Request& request, Extent extent,
                                        std::shared_ptr<Cluster> cluster) {
  const Slots::Guard slot = co_await slots_.Take();
  cluster->data = AlignedBuffer::Allocate(geometry_.cluster_size());
  cluster->status = cluster->data
                        ? co_await Unpack(request, extent, cluster->data.data())
                        : IoError(ENOMEM);
  cluster->loaded = true;
  if (!cluster->status.ok()) std::erase(clusters_, cluster);
  cluster->waiters.WakeAll();
  co_return cluster->status;
}

Task<IoStatus> ClusterCache::Read(Request& request, Extent extent,
                                  IoView data) {
  std::shared_ptr<Cluster> cluster = Find(extent.host);
  if (cluster == nullptr) {
    if (data.size() == geometry_.cluster_size()) {
      co_return co_await ReadWhole(request, extent, data);
    }
    ++statistics_.misses;
    cluster = std::make_shared<Cluster>();
    cluster->host = extent.host;
    clusters_.push_front(cluster);
    if (clusters_.size() > capacity_) {
      clusters_.pop_back();
      ++statistics_.evictions;
    }
    BGFS_CO_TRY(co_await LoadShared(request, extent, cluster));
  } else if (!cluster->loaded) {
    ++statistics_.misses;
    co_await cluster->waiters.Wait();
  } else {
    ++statistics_.hits;
  }
  BGFS_CO_TRY(cluster->status);
  data.CopyFrom(cluster->data.data() + geometry_.InCluster(extent.start));
  co_return IoStatus();
}

}  // namespace bgfs::qcow2
