#include "drivers/qcow2/check.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "drivers/qcow2/check_context.h"
#include "drivers/qcow2/check_copied.h"
#include "drivers/qcow2/check_refcounts.h"
#include "drivers/qcow2/check_walk.h"
#include "drivers/qcow2/repair.h"

namespace bgfs::qcow2 {

absl::string_view NameOf(FindingKind kind) {
  static constexpr std::array<absl::string_view, kFindingKinds> kNames = {
      "leak",         "refcount too low", "refcount overflow", "refcount table",
      "COPIED set",   "COPIED clear",     "reserved bits",     "misaligned",
      "out of file",  "overlap",          "bad entry",         "snapshot",
      "marked dirty", "marked corrupt"};
  return kNames[static_cast<size_t>(kind)];
}

int64_t CheckReport::corruptions() const {
  int64_t sum = 0;
  for (const int64_t of_kind : counts) sum += of_kind;
  return sum - leaks() - count(FindingKind::kMarkedDirty) -
         count(FindingKind::kMarkedCorrupt);
}

void CheckReport::Forget(FindingKind kind) {
  counts[static_cast<size_t>(kind)] = 0;
  findings.erase(std::remove_if(findings.begin(), findings.end(),
                                [kind](const Finding& finding) {
                                  return finding.kind == kind;
                                }),
                 findings.end());
}

namespace {

Task<absl::Status> Examine(CheckContext& context) {
  const Header& header = context.header();
  if (header.dirty()) {
    context.Report(FindingKind::kMarkedDirty, HostOffset(),
                   "the image is marked as dirty");
  }
  if (header.corrupt()) {
    context.Report(FindingKind::kMarkedCorrupt, HostOffset(),
                   "the image is marked as corrupt");
  }
  const int64_t cluster = context.cluster_size();
  context.report.total_clusters =
      header.size_bytes / cluster + (header.size_bytes % cluster != 0 ? 1 : 0);
  ReferenceWalk walk(&context);
  if (auto s = co_await walk.Run(/*refcount_structures=*/true); !s.ok()) {
    co_return s;
  }
  const IoStatus compared = co_await CompareRefcounts(context);
  if (!compared.ok()) co_return compared.ToStatus("reading a refcount block");
  const IoStatus copied = co_await VisitCopied(context, CopiedPass::kReport);
  co_return copied.ok() ? absl::OkStatus()
                        : copied.ToStatus("reading an L2 table");
}

}  // namespace

Task<absl::StatusOr<CheckReport>> CheckImage(Child& file, Repair repair,
                                             CheckProgress progress) {
  if (repair != Repair::kNone) {
    // What the page cache alone holds is nothing to decide on.
    const IoStatus flushed = co_await file.Flush();
    if (!flushed.ok()) co_return flushed.ToStatus("flushing the image");
  }
  auto opened = co_await CheckContext::Open(file, &progress);
  if (!opened.ok()) co_return opened.status();
  std::unique_ptr<CheckContext> context = *std::move(opened);
  if (auto s = co_await Examine(*context); !s.ok()) co_return s;
  const Header& header = context->header();
  const bool marked = header.dirty() || header.corrupt();
  if (repair == Repair::kNone || (context->report.clean() && !marked)) {
    co_return std::move(context->report);
  }
  const int64_t leaks = context->report.leaks();
  const int64_t corruptions = context->report.corruptions();
  if (!context->report.clean()) {
    if (auto s = co_await RepairImage(*context, repair); !s.ok()) co_return s;
    context.reset();  // its memory, before it is taken again
    opened = co_await CheckContext::Open(file, &progress);
    if (!opened.ok()) co_return opened.status();
    context = *std::move(opened);
    if (auto s = co_await Examine(*context); !s.ok()) co_return s;
  }
  CheckReport& report = context->report;
  report.leaks_fixed = std::max<int64_t>(0, leaks - report.leaks());
  report.corruptions_fixed =
      std::max<int64_t>(0, corruptions - report.corruptions());
  if (report.corruptions() == 0) {
    const IoStatus cleared = co_await ClearMarks(*context);
    if (!cleared.ok()) co_return cleared.ToStatus("writing the header");
    report.Forget(FindingKind::kMarkedDirty);
    report.Forget(FindingKind::kMarkedCorrupt);
  }
  co_return std::move(report);
}

}  // namespace bgfs::qcow2
