// RandomChain: a qcow2 image on a simulated disk, with what lies below it, for
// histories that write it. The files are made once; the nodes over them are
// opened anew for each life of the process.
//
//   qcow2 ── file | raw(file)
//     └─ backing: qcow2, cow or raw, of other clusters and sizes, or nothing
//
// Small clusters and narrow tables are likely, so that tables grow, move and do
// not fit in the cache within a short history.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_RANDOM_CHAIN_H_
#define BGFS_TESTS_DRIVERS_QCOW2_RANDOM_CHAIN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/graph.h"
#include "tests/drivers/qcow2/random_image.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {

class RandomChain {
 public:
  explicit RandomChain(SimWorld* world);

  const std::string& description() const { return description_; }
  // Of the top image. Everything that the disk holds lies between base() and
  // base() + capacity(), where cells (cell_model.h) have these numbers.
  int64_t base() const { return base_; }
  int64_t size() const { return size_; }  // from base() on
  int64_t capacity() const { return capacity_; }
  const std::vector<int64_t>& numbers() const { return numbers_; }
  // Of its internal snapshot, or empty.
  const std::vector<int64_t>& snapshot() const { return snapshot_; }
  int64_t cluster_size() const { return cluster_size_; }
  // Whether the size of the top image may change.
  bool resizable() const { return resizable_; }

  // The file of the top image, and where in it the image begins.
  const std::string& path() const { return path_; }
  int64_t offset_in_file() const { return offset_in_file_; }
  std::string ImageBytes() const;
  // Whether each file below the image is as it was.
  bool LowerFilesUnchanged() const;

  // Reads `image`, which is like the top image but for what its disk holds,
  // over the same layers; says where it does not show snapshot().
  Task<std::string> CompareSnapshot(std::string image);

  // Opens the nodes, at home; gives the top one.
  Task<absl::StatusOr<Node*>> Open(Graph* graph, bool read_only) const;

 private:
  // A node below the top one, or the top one.
  struct Layer {
    std::string spec;              // what OpenNode() opens,
    int64_t cow_cluster = 0;       // or else a cow node of such clusters
    int64_t size = 0;              // from base() on
    std::vector<int64_t> numbers;  // of cells
  };

  void PickSizes();
  int PickClusterBits();
  int64_t PickBackingSize();
  Layer MakeRaw(const std::string& name, int64_t number);
  Layer MakeCow(int64_t number, const Layer* below);
  Layer MakeQcow2(const std::string& name, int64_t number, const Layer* below,
                  int cluster_bits);
  NewImageOptions PickImage(int cluster_bits, int64_t size, bool top);
  std::vector<int64_t> NumbersOf(const std::vector<Source>& clusters,
                                 int64_t cluster, int64_t number, int64_t size,
                                 const Layer* below) const;
  // Makes a file, which begins with garbage before `offset`; gives the spec of
  // a child "file".
  std::string AddFile(const std::string& name, int64_t offset,
                      const std::string& content);
  Task<absl::StatusOr<Node*>> OpenSpec(Graph* graph, std::string spec) const;
  Task<std::string> ReadSnapshot(Graph* graph) const;
  Task<absl::StatusOr<Node*>> OpenCow(Graph* graph, size_t index) const;
  std::string NameOf(size_t index) const;

  SimWorld* const world_;
  SimRandom& random_;
  std::string description_;
  int64_t base_ = 0;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
  int64_t cluster_size_ = 0;
  bool resizable_ = true;
  std::vector<int64_t> numbers_;
  std::vector<int64_t> snapshot_;
  std::string path_;
  int64_t offset_in_file_ = 0;
  std::string raw_spec_;  // of the node between the top and its file, or empty
  std::string top_spec_;
  std::vector<Layer> layers_;  // below the top, the lowest first
  std::map<std::string, std::string> lower_files_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_RANDOM_CHAIN_H_
