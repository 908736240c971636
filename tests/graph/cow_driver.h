// A small copy-on-write format for tests: what qcow2 does to the engine,
// without its metadata. The map from guest to host clusters lives in memory;
// the clusters live in the child "file", and what is not in the map is read
// from the child "backing", if there is one.
//
//   guest  | 0 | 1 | 2 | 3 |          map: 0 -> host 1, 1 -> zero, 2 -> host 0,
//   file   | 2 | 0 |                       3 -> not allocated
//
// A host cluster that is freed is used again at once by the next allocation,
// whoever looked it up before; and between looking up a mapping and using it
// the driver sleeps, as a driver does that waits for its metadata. So only the
// change window keeps a write from landing in a cluster that belongs to
// somebody else by then. That each change of the map lies in the claim of a
// serialising request is checked as well.

#ifndef BGFS_TESTS_GRAPH_COW_DRIVER_H_
#define BGFS_TESTS_GRAPH_COW_DRIVER_H_

#include <cstdint>
#include <vector>

#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs {

class CowDriver : public Driver {
 public:
  // A power of two.
  explicit CowDriver(int64_t cluster_bytes) : cluster_(cluster_bytes) {}

  // Once the node has its children: sets the size.
  void OpenWith(int64_t size_bytes);

  // Host clusters in use.
  int64_t allocated() const;
  bool IsAllocated(int64_t guest) const {
    return map_[static_cast<size_t>(guest)] >= 0;
  }

  absl::string_view format_name() const override { return "cow"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  Task<IoResult<Range>> ChangeWindow(const Request& request) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;
  void RefreshLimits(Limits* limits) override;

 private:
  // In the map, beside the numbers of host clusters.
  static constexpr int64_t kUnallocated = -1;
  static constexpr int64_t kZeroCluster = -2;

  // Some turns of the loop, as many as the loop's chance wants.
  static Task<void> Sleep();
  int64_t& Entry(int64_t guest) { return map_[static_cast<size_t>(guest)]; }
  int64_t Clusters(int64_t bytes) const {
    return (bytes + cluster_ - 1) / cluster_;
  }
  int64_t Allocate();
  void Free(int64_t host);
  // Changes the map on behalf of `request`.
  void Map(const Request& request, int64_t guest, int64_t entry);

  Task<IoStatus> ReadCluster(Request* request, int64_t offset, IoView data);
  Task<IoStatus> WriteCluster(Request* request, int64_t offset, IoView data);
  // Fills the cluster around [offset, offset + data) and puts it in the map.
  Task<IoStatus> CopyOnWrite(Request* request, int64_t offset, IoView data);
  // Zeroes what a cluster holds behind `size_bytes`.
  Task<IoStatus> ZeroTail(Request* request, int64_t size_bytes);

  const int64_t cluster_;
  Child* file_ = nullptr;
  Child* backing_ = nullptr;
  std::vector<int64_t> map_;   // by guest cluster
  std::vector<int64_t> free_;  // the last one freed is the next one used
  int64_t next_host_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_COW_DRIVER_H_
