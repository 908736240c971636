#include "drivers/qcow2/check.h"

#include <memory>
#include <utility>

#include "drivers/qcow2/check_context.h"
#include "drivers/qcow2/check_copied.h"
#include "drivers/qcow2/check_refcounts.h"
#include "drivers/qcow2/check_walk.h"

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
  auto context = co_await CheckContext::Open(file, std::move(progress));
  if (!context.ok()) co_return context.status();
  if (auto s = co_await Examine(**context); !s.ok()) co_return s;
  (void)repair;
  co_return std::move((*context)->report);
}

}  // namespace bgfs::qcow2
