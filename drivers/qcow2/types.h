// Numbers of a qcow2 image that must not be mixed up.
//
// A qcow2 image maps one address space (the guest's disk) to another (the
// bytes of the image file), each cut into clusters, with two levels of tables
// between them. Each of these has a type of its own here: an offset of the
// guest used as an offset into the file does not compile. Raw integers appear
// only where a value enters or leaves (`.value()`).
//
//   guest offset ── Geometry ──▶ guest cluster ──▶ L1 index, L2 index
//   host offset: into the image file, in bytes

#ifndef BGFS_DRIVERS_QCOW2_TYPES_H_
#define BGFS_DRIVERS_QCOW2_TYPES_H_

#include <compare>
#include <cstdint>

namespace bgfs::qcow2 {

// A signed 64-bit number that belongs to `Tag`. A difference of two is a plain
// number of bytes (or of clusters, or of entries).
template <typename Tag>
class Tagged {
 public:
  constexpr Tagged() = default;
  constexpr explicit Tagged(int64_t value) : value_(value) {}
  constexpr int64_t value() const { return value_; }

  friend constexpr Tagged operator+(Tagged a, int64_t b) {
    return Tagged(a.value_ + b);
  }
  friend constexpr int64_t operator-(Tagged a, Tagged b) {
    return a.value_ - b.value_;
  }
  constexpr Tagged& operator+=(int64_t b) {
    value_ += b;
    return *this;
  }
  friend constexpr auto operator<=>(Tagged, Tagged) = default;

 private:
  int64_t value_ = 0;
};

// Bytes from the start of the guest's disk.
using GuestOffset = Tagged<struct GuestOffsetTag>;
// Bytes from the start of the image file.
using HostOffset = Tagged<struct HostOffsetTag>;
// A cluster of the image file, counted from 0.
using HostCluster = Tagged<struct HostClusterTag>;
// A cluster of the guest's disk, counted from 0.
using GuestCluster = Tagged<struct GuestClusterTag>;
// An entry of the active L1 table.
using L1Index = Tagged<struct L1IndexTag>;
// An entry of one L2 table.
using L2Index = Tagged<struct L2IndexTag>;

// Clusters of the image file that lie one after the other.
struct HostRun {
  HostCluster first;
  int64_t clusters = 0;

  bool empty() const { return clusters == 0; }
  HostCluster end() const { return first + clusters; }
};

// How the cluster size of an image cuts its address spaces ("Cluster mapping"
// in the specification). Host and guest clusters have the same size.
class Geometry {
 public:
  // `cluster_bits` is 9..21, checked by ParseHeader.
  constexpr explicit Geometry(int cluster_bits) : cluster_bits_(cluster_bits) {}

  constexpr int cluster_bits() const { return cluster_bits_; }
  constexpr int64_t cluster_size() const { return int64_t{1} << cluster_bits_; }
  // An L2 table is one cluster of 64-bit entries.
  constexpr int l2_bits() const { return cluster_bits_ - 3; }
  constexpr int64_t l2_entries() const { return int64_t{1} << l2_bits(); }
  // How many bytes of the guest's disk one L2 table describes.
  constexpr int64_t bytes_per_l2_table() const {
    return int64_t{1} << (cluster_bits_ + l2_bits());
  }

  constexpr GuestCluster ClusterOf(GuestOffset offset) const {
    return GuestCluster(offset.value() >> cluster_bits_);
  }
  constexpr GuestOffset StartOf(GuestCluster cluster) const {
    return GuestOffset(cluster.value() << cluster_bits_);
  }
  constexpr int64_t InCluster(GuestOffset offset) const {
    return offset.value() & (cluster_size() - 1);
  }
  constexpr bool IsClusterStart(HostOffset offset) const {
    return (offset.value() & (cluster_size() - 1)) == 0;
  }
  constexpr HostCluster ClusterOf(HostOffset offset) const {
    return HostCluster(offset.value() >> cluster_bits_);
  }
  constexpr HostOffset StartOf(HostCluster cluster) const {
    return HostOffset(cluster.value() << cluster_bits_);
  }
  // How many clusters `bytes` (not negative) fill, the last one perhaps partly.
  constexpr int64_t ClustersFor(int64_t bytes) const {
    return (bytes >> cluster_bits_) +
           ((bytes & (cluster_size() - 1)) != 0 ? 1 : 0);
  }
  constexpr L1Index L1IndexOf(GuestCluster cluster) const {
    return L1Index(cluster.value() >> l2_bits());
  }
  constexpr L2Index L2IndexOf(GuestCluster cluster) const {
    return L2Index(cluster.value() & (l2_entries() - 1));
  }

  // How many L1 entries a disk of `size_bytes` (not negative) needs.
  constexpr int64_t L1EntriesFor(int64_t size_bytes) const {
    int64_t tables = size_bytes >> (cluster_bits_ + l2_bits());
    bool rest = (size_bytes & (bytes_per_l2_table() - 1)) != 0;
    return tables + (rest ? 1 : 0);
  }

 private:
  int cluster_bits_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_TYPES_H_
