#include "drivers/qcow2/repair.h"

#include <algorithm>
#include <vector>

#include "drivers/qcow2/check_copied.h"
#include "drivers/qcow2/check_refcounts.h"
#include "drivers/qcow2/check_walk.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/refcount_entries.h"
#include "drivers/qcow2/refcount_rebuild.h"

namespace bgfs::qcow2 {
namespace {

// Offsets in the header ("Header").

constexpr uint64_t kSubclustersAllocated = 0xffffffff;

// "Header", autoclear_features: before the first write.
Task<IoStatus> ClearUnknownAutoclear(CheckContext& context) {
  constexpr uint64_t kKnown = kAutoclearBitmaps | kAutoclearRawDataFile;
  const uint64_t bits = context.header().autoclear_features;
  if (context.header().version < 3 || (bits & ~kKnown) == 0) {
    co_return IoStatus();
  }
  const uint64_t known = bits & kKnown;
  BGFS_CO_TRY(co_await context.WriteWords(HostOffset(kAutoclearAt),
                                          absl::MakeSpan(&known, 1)));
  co_return co_await context.file().Flush();
}

// A cluster that reads as zeros needs no host cluster, so one that is reserved
// where no cluster begins is given up. Of data nobody knows where it is.
bool MendEntries(const CheckContext& context, absl::Span<uint64_t> words) {
  const auto step = static_cast<size_t>(context.words_per_entry());
  bool changed = false;
  for (size_t i = 0; i < words.size(); i += step) {
    const uint64_t raw = words[i];
    const HostOffset host(static_cast<int64_t>(raw & kEntryOffsetMask));
    if ((raw & kEntryCompressed) != 0 ||
        context.geometry().IsClusterStart(host)) {
      continue;
    }
    if (step == 2 && (words[i + 1] & kSubclustersAllocated) == 0) {
      words[i] = 0;
      changed = true;
    } else if (step == 1 && (raw & kEntryZero) != 0 &&
               context.header().zero_flag()) {
      words[i] = kEntryZero;
      changed = true;
    }
  }
  return changed;
}

Task<IoStatus> MendL2Tables(CheckContext& context) {
  const auto mend = [&context](HostOffset, absl::Span<uint64_t> words) {
    return MendEntries(context, words);
  };
  BGFS_CO_TRY(co_await ForEachL2Table(context, /*active_only=*/false, mend));
  co_return co_await context.file().Flush();
}

enum class CountPass : uint8_t { kRaise, kLower };

// Makes the counts of a block, which begins with that of cluster `first`, right
// in one direction. True if any was changed.
bool MendCounts(const CheckContext& context, CountPass pass, int64_t first,
                int64_t end, std::vector<uint8_t>& block) {
  const int order = context.header().refcount_order;
  bool changed = false;
  for (int64_t i = first; i < end; ++i) {
    const uint64_t stored = LoadRefcount(block.data(), order, i - first);
    const uint64_t right =
        std::min(context.references.Get(i), MaxRefcount(order));
    if (pass == CountPass::kRaise ? stored >= right : stored <= right) continue;
    StoreRefcount(block.data(), order, i - first, right);
    changed = true;
  }
  return changed;
}

Task<IoStatus> WriteCounts(CheckContext& context, CountPass pass) {
  const int64_t per_block = RefcountsPerBlock(context.cluster_size(),
                                              context.header().refcount_order);
  const int64_t end =
      std::max(context.file_clusters(), context.references.end());
  std::vector<uint8_t> block(static_cast<size_t>(context.cluster_size()));
  const auto blocks = static_cast<int64_t>(context.refcount_table.size());
  for (int64_t i = 0; i < blocks && i * per_block < end; ++i) {
    const HostOffset at = RefcountBlockAt(context, i);
    if (at == HostOffset()) continue;
    const IoView data(block.data(), context.cluster_size());
    const IoResult<bool> read = co_await context.ReadBytes(at, data);
    if (!read.ok()) co_return read.status();
    if (!*read) std::fill(block.begin(), block.end(), uint8_t{0});
    if (MendCounts(context, pass, i * per_block,
                   std::min(end, (i + 1) * per_block), block)) {
      BGFS_CO_TRY(co_await context.file().Write(nullptr, at.value(), data));
    }
  }
  co_return co_await context.file().Flush();
}

Task<IoStatus> WriteCopied(CheckContext& context, CopiedPass pass) {
  BGFS_CO_TRY(co_await VisitCopied(context, pass));
  co_return co_await context.file().Flush();
}

Task<absl::Status> RepairLeaks(CheckContext& context, bool corrupt) {
  if (context.rebuild) {
    co_return absl::FailedPreconditionError(
        "the refcount structures are broken, so leaks alone cannot be mended;"
        " repair all");
  }
  IoStatus status = co_await WriteCounts(context, CountPass::kLower);
  // A count that fell to 1 lets the flag be set; what else there is wrong is
  // not touched.
  if (status.ok() && !corrupt) {
    status = co_await WriteCopied(context, CopiedPass::kSetRight);
  }
  co_return status.ok() ? absl::OkStatus() : status.ToStatus("repairing");
}

Task<IoStatus> MendRefcounts(CheckContext& context) {
  BGFS_CO_TRY(co_await WriteCounts(context, CountPass::kRaise));
  co_return co_await WriteCounts(context, CountPass::kLower);
}

Task<absl::Status> RepairAll(CheckContext& context) {
  ReferenceWalk walk(&context);
  if (context.report.count(FindingKind::kMisaligned) != 0) {
    const IoStatus mended = co_await MendL2Tables(context);
    if (!mended.ok()) co_return mended.ToStatus("repairing an L2 table");
    if (auto s = co_await walk.Run(/*refcount_structures=*/true); !s.ok()) {
      co_return s;
    }
  }
  // Before any flag is judged: a cluster may have more references then.
  if (context.rebuild) {
    if (auto s = co_await CountForRebuild(context); !s.ok()) co_return s;
  }
  IoStatus status = co_await WriteCopied(context, CopiedPass::kClearWrong);
  if (!status.ok()) co_return status.ToStatus("clearing COPIED flags");
  if (context.rebuild) {
    if (auto s = co_await RebuildRefcounts(context); !s.ok()) co_return s;
  } else {
    status = co_await MendRefcounts(context);
    if (!status.ok()) co_return status.ToStatus("writing refcounts");
  }
  status = co_await WriteCopied(context, CopiedPass::kSetRight);
  co_return status.ok() ? absl::OkStatus()
                        : status.ToStatus("setting COPIED flags");
}

}  // namespace

Task<absl::Status> RepairImage(CheckContext& context, Repair repair) {
  const IoStatus cleared = co_await ClearUnknownAutoclear(context);
  if (!cleared.ok()) co_return cleared.ToStatus("writing the header");
  if (repair == Repair::kAll) co_return co_await RepairAll(context);
  co_return co_await RepairLeaks(context, context.report.corruptions() != 0);
}

Task<IoStatus> ClearMarks(CheckContext& context) {
  const Header& header = context.header();
  if (!header.dirty() && !header.corrupt()) co_return IoStatus();
  const uint64_t bits = header.incompatible_features &
                        ~(kIncompatibleDirty | kIncompatibleCorrupt);
  BGFS_CO_TRY(co_await context.WriteWords(HostOffset(kIncompatibleAt),
                                          absl::MakeSpan(&bits, 1)));
  co_return co_await context.file().Flush();
}

}  // namespace bgfs::qcow2
