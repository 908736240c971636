#include "drivers/qcow2/refcount_rebuild.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "drivers/qcow2/check_walk.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/refcount_entries.h"

namespace bgfs::qcow2 {
namespace {

// refcount_table_offset and refcount_table_clusters ("Header").
constexpr int64_t kTablePointerBytes = 12;

class Rebuild {
 public:
  explicit Rebuild(CheckContext& context)
      : c_(context),
        order_(context.header().refcount_order),
        per_block_(RefcountsPerBlock(context.cluster_size(), order_)),
        start_(std::max(context.file_clusters(), context.references.end())) {}

  // Finds out which blocks there must be; those of what is new among them.
  absl::Status Plan() {
    int64_t next = 0;
    for (int64_t i = c_.references.NextUsed(0); i >= 0;
         i = c_.references.NextUsed(next)) {
      next = i + 1;
      if (c_.references.Get(i) == 0) continue;
      blocks_.push_back(i / per_block_);
      next = (i / per_block_ + 1) * per_block_;
    }
    const size_t of_old = blocks_.size();
    for (bool grew = true; grew;) {
      table_clusters_ = ClustersFor((start_ + size()) / per_block_ + 1);
      if (table_clusters_ > MaxTableClusters()) return TooLarge();
      const int64_t last = (start_ + size() - 1) / per_block_;
      grew = false;
      for (int64_t i = start_ / per_block_; i <= last; ++i) {
        const auto begin = blocks_.begin() +
                           static_cast<int64_t>(of_old == 0 ? 0 : of_old - 1);
        if (std::find(begin, blocks_.end(), i) != blocks_.end()) continue;
        blocks_.push_back(i);
        grew = true;
      }
    }
    for (int64_t i = 0; i < size(); ++i) c_.references.Add(start_ + i, 1);
    return c_.budget.exhausted() ? c_.OutOfMemory() : absl::OkStatus();
  }

  Task<IoStatus> Write() {
    std::vector<uint64_t> table(static_cast<size_t>(
        table_clusters_ * c_.cluster_size() / int64_t{sizeof(uint64_t)}));
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const HostOffset at = c_.StartOf(start_ + static_cast<int64_t>(i));
      table[static_cast<size_t>(blocks_[i])] =
          static_cast<uint64_t>(at.value());
      BGFS_CO_TRY(co_await WriteBlock(blocks_[i], at));
    }
    BGFS_CO_TRY(co_await c_.WriteWords(TableAt(), table));
    BGFS_CO_TRY(co_await c_.file().Flush());
    BGFS_CO_TRY(co_await SwitchHeader());
    co_return co_await c_.file().Flush();
  }

 private:
  int64_t size() const {
    return static_cast<int64_t>(blocks_.size()) + table_clusters_;
  }
  HostOffset TableAt() const {
    return c_.StartOf(start_ + static_cast<int64_t>(blocks_.size()));
  }
  int64_t ClustersFor(int64_t entries) const {
    const int64_t bytes = entries * int64_t{sizeof(uint64_t)};
    return (bytes + c_.cluster_size() - 1) / c_.cluster_size();
  }
  int64_t MaxTableClusters() const {
    return kMaxRefcountTableBytes / c_.cluster_size();
  }
  absl::Status TooLarge() const {
    return absl::FailedPreconditionError(absl::StrCat(
        "the file is too large (", c_.file().size(),
        " bytes) for a refcount table of 8 MiB; if it ends with a hole, cut"
        " that off"));
  }

  Task<IoStatus> WriteBlock(int64_t index, HostOffset at) {
    std::vector<uint8_t> block(static_cast<size_t>(c_.cluster_size()));
    const int64_t first = index * per_block_;
    for (int64_t i = c_.references.NextUsed(first);
         i >= 0 && i < first + per_block_; i = c_.references.NextUsed(i + 1)) {
      StoreRefcount(block.data(), order_, i - first,
                    std::min(c_.references.Get(i), MaxRefcount(order_)));
    }
    co_return co_await c_.file().Write(nullptr, at.value(),
                                       IoView(block.data(), c_.cluster_size()));
  }

  Task<IoStatus> SwitchHeader() {
    std::array<uint8_t, kTablePointerBytes> pointer;
    StoreBig64(pointer.data(), static_cast<uint64_t>(TableAt().value()));
    StoreBig32(&pointer[8], static_cast<uint32_t>(table_clusters_));
    co_return co_await c_.file().Write(
        nullptr, kRefcountTableAt, IoView(pointer.data(), kTablePointerBytes));
  }

  CheckContext& c_;
  const int order_;
  const int64_t per_block_;
  const int64_t start_;          // the cluster where the new ones begin
  std::vector<int64_t> blocks_;  // indexes into the table
  int64_t table_clusters_ = 0;
};

}  // namespace

Task<absl::Status> CountForRebuild(CheckContext& context) {
  ReferenceWalk walk(&context);
  context.lengthens = true;
  if (auto s = co_await walk.Run(/*refcount_structures=*/false); !s.ok()) {
    co_return s;
  }
  if (context.header_shared) {
    co_return absl::FailedPreconditionError(
        "a table lies over the header, which has to be written to lead to new"
        " refcounts");
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RebuildRefcounts(CheckContext& context) {
  Rebuild rebuild(context);
  if (auto s = rebuild.Plan(); !s.ok()) co_return s;
  const IoStatus written = co_await rebuild.Write();
  co_return written.ok() ? absl::OkStatus()
                         : written.ToStatus("writing new refcounts");
}

}  // namespace bgfs::qcow2
