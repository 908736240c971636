// NewImage: a qcow2 image put together in memory, cluster by cluster, with
// right refcounts and flags, for tests that have no processes (simulated disks)
// or want what qemu-img does not make: narrow refcounts with snapshots, unknown
// extensions, free clusters full of a dead writer's data.
//
//   NewImage image({.cluster_bits = 9, .size_bytes = 65536});
//   image.SetData(3, content_of_guest_cluster_3);
//   image.TakeSnapshot("before");      // shares all that is there
//   image.SetData(3, other_content);   // copies the L2 table, as a writer
//   would disk.Create("disk.qcow2", image.Finish());
//
// Host clusters are given out in the order of the calls: the header, the L1
// table, what the calls ask for; Finish() adds the snapshot table and the
// refcounts. What is freed is not used again and keeps its bytes.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_NEW_IMAGE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_NEW_IMAGE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/types.h"

namespace bgfs::qcow2 {

struct NewImageOptions {
  int version = 3;
  int cluster_bits = 16;
  int refcount_order = 4;  // of version 2: 4
  int64_t size_bytes = int64_t{1} << 20;
  CompressionType compression = CompressionType::kDeflate;
  std::string backing_name = {};
  std::string backing_format = {};  // empty: not told
  bool lazy_refcounts = false;
  bool dirty = false;
  uint64_t autoclear = 0;
  // Fields after compression_type and its padding; a multiple of 8 bytes.
  std::string more_fields = {};
  std::vector<std::pair<uint32_t, std::string>> extensions = {};
  int64_t spare_l1_entries = 0;
};

class NewImage {
 public:
  explicit NewImage(NewImageOptions options);

  int64_t cluster_size() const { return geometry_.cluster_size(); }
  // Of the disk, the last one may be a part.
  int64_t guest_clusters() const {
    return (options_.size_bytes + cluster_size() - 1) / cluster_size();
  }
  // The largest refcount that the width allows.
  uint64_t max_count() const;

  // What a guest cluster holds from now on. `content` is a whole cluster, or
  // shorter: zeros follow.
  void SetData(int64_t cluster, absl::string_view content);
  void SetCompressed(int64_t cluster, absl::string_view content);
  void SetZero(int64_t cluster);           // version 3
  void SetZeroAllocated(int64_t cluster);  // version 3; garbage lies below
  void SetUnallocated(int64_t cluster);

  // An internal snapshot of the disk as it is now; refcounts of 2 bits at
  // least.
  void TakeSnapshot(const std::string& name);
  // Host clusters that are counted, but used by nothing.
  void Leak(int64_t clusters);
  // Free host clusters that hold garbage.
  void Skip(int64_t clusters);
  // Of what is placed from now on no refcount reaches the disk: for an image
  // that is marked dirty.
  void ForgetCounts() { counted_ = static_cast<int64_t>(counts_.size()); }

  // The whole file, with so many bytes of garbage at its end. Once.
  std::string Finish(int64_t garbage_bytes = 0);

 private:
  struct Table {
    int64_t host = 0;               // cluster
    std::vector<uint64_t> entries;  // without COPIED
  };
  struct Snapshot {
    std::string name;
    int64_t l1_host = 0;
    std::vector<int> l1;
  };
  static constexpr int kNone = -1;

  int64_t Allocate(int64_t clusters, bool counted = true);
  void Put(int64_t offset, absl::string_view bytes);
  void PutWord(int64_t offset, uint64_t word);
  void FillWithGarbage(int64_t offset, int64_t bytes);
  uint64_t& EntryOf(int64_t cluster);
  void Replace(int64_t cluster, uint64_t entry);
  void AddReferences(uint64_t entry, int by);
  // Finds room for packed data of so many bytes.
  int64_t PlacePacked(int64_t bytes);
  std::string Compress(std::string cluster) const;
  uint64_t Copied(uint64_t entry) const;
  void PutL1(int64_t host, const std::vector<int>& l1, bool active);
  void PutSnapshots(int64_t* offset);
  void PutRefcounts(int64_t* table, int64_t* table_clusters);
  void PutHeader(int64_t table, int64_t table_clusters, int64_t snapshots);

  const NewImageOptions options_;
  const Geometry geometry_;
  std::string bytes_;
  std::vector<uint64_t> counts_;  // by host cluster
  int64_t counted_ = -1;          // after ForgetCounts
  std::vector<Table> tables_;
  std::vector<int> l1_;  // of the disk: index of a table, or kNone
  int64_t l1_host_ = 0;
  std::vector<Snapshot> snapshots_;
  int64_t packed_end_ = 0;  // where packed data may go on
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_NEW_IMAGE_H_
