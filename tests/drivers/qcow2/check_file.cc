#include "tests/drivers/qcow2/check_file.h"

#include <sys/wait.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {

absl::StatusOr<CheckReport> CheckFile(const std::string& path, Repair repair) {
  const bool writes = repair != Repair::kNone;
  TestGraph graph;
  auto disk =
      graph.Disk(absl::StrCat("file { filename: \"", path,
                              "\" } read_only: ", writes ? "false" : "true"),
                 writes ? kReadWrite : kConsistentRead);
  return disk->Do(CheckImage(disk->backend().root(), repair));
}

std::string Summary(const CheckReport& report) {
  std::string summary;
  for (int i = 0; i < kFindingKinds; ++i) {
    const auto kind = static_cast<FindingKind>(i);
    if (report.count(kind) == 0) continue;
    absl::StrAppend(&summary, summary.empty() ? "" : ", ", NameOf(kind), " ",
                    report.count(kind));
  }
  return summary;
}

Verdict VerdictOf(const absl::StatusOr<CheckReport>& report) {
  if (!report.ok()) return Verdict::kUnusable;
  if (report->corruptions() != 0) return Verdict::kCorrupt;
  return report->leaks() != 0 ? Verdict::kLeaks : Verdict::kClean;
}

Verdict QemuVerdict(const std::string& path, const std::string& repair) {
  const int status = std::system(
      absl::StrCat("timeout 60 qemu-img check -q -f qcow2 ",
                   repair.empty() ? "" : absl::StrCat("-r ", repair, " "), path,
                   " >/dev/null 2>&1")
          .c_str());
  switch (WEXITSTATUS(status)) {
    case 0:
      return Verdict::kClean;
    case 2:
      return Verdict::kCorrupt;
    case 3:
      return Verdict::kLeaks;
    default:
      return Verdict::kUnusable;
  }
}

}  // namespace bgfs::qcow2
