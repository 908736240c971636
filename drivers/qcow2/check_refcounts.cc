#include "drivers/qcow2/check_refcounts.h"

#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "drivers/qcow2/refcount_entries.h"

namespace bgfs::qcow2 {
namespace {

void Judge(CheckContext& context, int64_t cluster, uint64_t stored,
           uint64_t max) {
  const uint64_t references = context.references.Get(cluster);
  // A count of one bit is 1 for many references, too; none of them owns it.
  if (stored == 1 && references != 0 && references <= max) {
    context.references.SetFlag(cluster, CheckContext::kStoredOne);
  }
  if (references > max) {
    context.Report(FindingKind::kRefcountOverflow, context.StartOf(cluster),
                   "cluster ", cluster, ": ", references,
                   " references, more than its refcount can hold");
  }
  if (stored == std::min(references, max)) return;
  const FindingKind kind =
      stored > references ? FindingKind::kLeak : FindingKind::kRefcountTooLow;
  context.Report(kind, context.StartOf(cluster), "cluster ", cluster,
                 ": refcount ", stored, ", references ", references);
}

}  // namespace

HostOffset RefcountBlockAt(const CheckContext& context, int64_t index) {
  if (index >= static_cast<int64_t>(context.refcount_table.size())) return {};
  const HostOffset block(
      static_cast<int64_t>(context.refcount_table[static_cast<size_t>(index)] &
                           ~kRefcountTableReserved));
  if (!context.geometry().IsClusterStart(block) || block.value() < 0 ||
      block.value() >= context.file().size()) {
    return {};
  }
  return block;
}

namespace {

// The counts of one block at a time, judged in the order of the clusters.
class Comparison {
 public:
  explicit Comparison(CheckContext& context)
      : c_(context),
        order_(context.header().refcount_order),
        max_(MaxRefcount(order_)),
        per_block_(RefcountsPerBlock(context.cluster_size(), order_)),
        // What is stored of clusters past the end of the file means nothing.
        end_(std::max(context.file_clusters(), context.references.end())),
        block_(static_cast<size_t>(context.cluster_size())) {}

  Task<IoStatus> Run() {
    const auto blocks = static_cast<int64_t>(c_.refcount_table.size());
    for (int64_t i = 0; i < blocks && i * per_block_ < end_; ++i) {
      const HostOffset at = RefcountBlockAt(c_, i);
      if (at == HostOffset() || !IsFirst(at)) continue;
      JudgeUncounted(i * per_block_, /*no_block=*/true);
      const IoResult<bool> read =
          co_await c_.ReadBytes(at, IoView(block_.data(), c_.cluster_size()));
      if (!read.ok()) co_return read.status();
      const int64_t block_end = std::min(end_, (i + 1) * per_block_);
      if (*read) {
        JudgeBlock(block_end);
      } else {
        JudgeUncounted(block_end, /*no_block=*/false);
      }
    }
    JudgeUncounted(end_, /*no_block=*/true);
    c_.report.image_end =
        c_.StartOf(std::max(last_stored_ + 1, c_.references.end()));
    co_return IoStatus();
  }

 private:
  // A block that several entries lead to counts for the first of them.
  bool IsFirst(HostOffset block) {
    return c_.references.Get(c_.ClusterOf(block)) <= 1 ||
           shared_.insert(block.value()).second;
  }

  void JudgeBlock(int64_t end) {
    const int64_t first = next_;
    for (; next_ < end; ++next_) {
      const uint64_t stored =
          LoadRefcount(block_.data(), order_, next_ - first);
      if (stored != 0) last_stored_ = next_;
      Judge(c_, next_, stored, max_);
    }
  }

  // Up to `end` every count is 0.
  void JudgeUncounted(int64_t end, bool no_block) {
    for (int64_t i = c_.references.NextUsed(next_); i >= 0 && i < end;
         i = c_.references.NextUsed(i + 1)) {
      if (c_.references.Get(i) == 0) continue;
      if (no_block) c_.rebuild = true;
      Judge(c_, i, 0, max_);
    }
    next_ = end;
  }

  CheckContext& c_;
  const int order_;
  const uint64_t max_;
  const int64_t per_block_;
  const int64_t end_;
  std::vector<uint8_t> block_;
  int64_t next_ = 0;  // the cluster that is judged next
  int64_t last_stored_ = 0;
  absl::flat_hash_set<int64_t> shared_;
};

}  // namespace

Task<IoStatus> CompareRefcounts(CheckContext& context) {
  Comparison comparison(context);
  co_return co_await comparison.Run();
}

}  // namespace bgfs::qcow2
