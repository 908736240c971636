#include "drivers/qcow2/check_copied.h"

#include "drivers/qcow2/check_walk.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kWordBytes = sizeof(uint64_t);

class CopiedFlags {
 public:
  CopiedFlags(CheckContext& context, CopiedPass pass)
      : c_(context), pass_(pass) {}

  // Judges or mends the flag of one entry at `at`; true if it was changed.
  bool Visit(uint64_t& raw, HostOffset at, const char* what) {
    const bool one = IsOne(raw & kEntryOffsetMask);
    const bool copied = (raw & kEntryCopied) != 0;
    if (one == copied) return false;
    switch (pass_) {
      case CopiedPass::kReport:
        c_.Report(one ? FindingKind::kCopiedClear : FindingKind::kCopiedSet, at,
                  "the ", what, " entry at ", at.value(),
                  one ? " is not marked COPIED, but the refcount is 1"
                      : " is marked COPIED, but the refcount is not 1");
        return false;
      case CopiedPass::kClearWrong:
        if (!copied) return false;
        raw &= ~kEntryCopied;
        return true;
      case CopiedPass::kSetRight:
        if (copied) return false;
        raw |= kEntryCopied;
        return true;
    }
    return false;
  }

  bool VisitL2(HostOffset table, absl::Span<uint64_t> words) {
    const bool data_file = c_.header().data_file();
    bool changed = false;
    for (size_t i = 0; i < words.size();
         i += static_cast<size_t>(c_.words_per_entry())) {
      uint64_t& raw = words[i];
      if ((raw & kEntryCompressed) != 0) {
        // Reported by the walk.
        if (pass_ != CopiedPass::kClearWrong || (raw & kEntryCopied) == 0) {
          continue;
        }
        raw &= ~kEntryCopied;
        changed = true;
      } else if (UsedWithoutOffset(raw)) {
        // Reported by the walk. QEMU reads it as unallocated.
        if (pass_ != CopiedPass::kClearWrong) continue;
        raw &= ~kEntryCopied;
        changed = true;
      } else if ((raw & kEntryOffsetMask) != 0 && !data_file) {
        changed |=
            Visit(raw, table + static_cast<int64_t>(i) * kWordBytes, "L2");
      } else if ((raw & kEntryOffsetMask) != 0 && (raw & kEntryCopied) == 0) {
        // Of a data file every cluster belongs to one entry.
        changed |=
            VisitOfDataFile(raw, table + static_cast<int64_t>(i) * kWordBytes);
      }
    }
    return changed;
  }

 private:
  bool IsOne(uint64_t offset) const {
    const int64_t cluster =
        c_.ClusterOf(HostOffset(static_cast<int64_t>(offset)));
    return pass_ == CopiedPass::kReport
               ? c_.references.HasFlag(cluster, CheckContext::kStoredOne)
               : c_.references.Get(cluster) == 1;
  }

  bool UsedWithoutOffset(uint64_t raw) const {
    return (raw & (kEntryOffsetMask | kEntryZero)) == 0 &&
           (raw & kEntryCopied) != 0 && !c_.header().data_file();
  }

  bool VisitOfDataFile(uint64_t& raw, HostOffset at) {
    if (pass_ == CopiedPass::kReport) {
      c_.Report(FindingKind::kCopiedClear, at, "the L2 entry at ", at.value(),
                " is not marked COPIED, in an image with a data file");
    }
    if (pass_ != CopiedPass::kSetRight) return false;
    raw |= kEntryCopied;
    return true;
  }

  CheckContext& c_;
  const CopiedPass pass_;
};

}  // namespace

Task<IoStatus> VisitCopied(CheckContext& context, CopiedPass pass) {
  CopiedFlags flags(context, pass);
  const HostOffset l1 = context.header().l1_table;
  const auto visit_l1 = [&](int64_t index, absl::Span<uint64_t> words) {
    bool changed = false;
    for (size_t i = 0; i < words.size(); ++i) {
      if ((words[i] & kEntryOffsetMask) == 0) continue;
      const HostOffset at = l1 + (index + static_cast<int64_t>(i)) * kWordBytes;
      // Where something else lies on the table, it is not written to.
      const bool shared = context.references.Get(context.ClusterOf(at)) > 1;
      if (shared && pass != CopiedPass::kReport) continue;
      changed |= flags.Visit(words[i], at, "L1");
    }
    return changed;
  };
  BGFS_CO_TRY(
      co_await ForEachWord(context, l1, context.header().l1_entries, visit_l1));
  const auto visit_l2 = [&](HostOffset table, absl::Span<uint64_t> words) {
    return flags.VisitL2(table, words);
  };
  co_return co_await ForEachL2Table(context, /*active_only=*/true, visit_l2);
}

}  // namespace bgfs::qcow2
