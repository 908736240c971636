// CheckContext: one check of one image, while it lasts: the image, what is
// counted, and what was found. The passes of the check share it.
//
//   check_walk       counts the references to each cluster, judges entries
//   check_refcounts  compares them with the counts that are stored
//   check_copied     compares the COPIED flags with those counts
//   repair           makes the image say what was counted
//
// Reading past the end of the file gives zeros, as it does for QEMU.

#ifndef BGFS_DRIVERS_QCOW2_CHECK_CONTEXT_H_
#define BGFS_DRIVERS_QCOW2_CHECK_CONTEXT_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "drivers/qcow2/check.h"
#include "drivers/qcow2/cluster_counts.h"
#include "drivers/qcow2/header.h"
#include "graph/async/buffer.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// "Full disk encryption header pointer".
struct CryptHeader {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

class CheckContext {
 public:
  // What all counting may take. With buffers, tables that are kept and the
  // program itself it stays below 256 MiB.
  static constexpr int64_t kBudgetBytes = int64_t{192} << 20;

  // Flags of `references`.
  static constexpr int kMetadata = 0;   // a table or a header is there
  static constexpr int kStoredOne = 1;  // the count that is stored is 1
  // Flag of `l2_tables`.
  static constexpr int kActive = 0;  // reached from the active L1 table

  // Reads the header and refuses what has no tables that could be checked.
  // Both outlive the context.
  static Task<absl::StatusOr<std::unique_ptr<CheckContext>>> Open(
      Child& file, CheckProgress* progress);

  Child& file() const { return file_; }
  const Header& header() const { return header_; }
  Geometry geometry() const { return header_.geometry; }
  int64_t cluster_size() const { return header_.geometry.cluster_size(); }
  int64_t ClusterOf(HostOffset at) const {
    return at.value() >> header_.geometry.cluster_bits();
  }
  HostOffset StartOf(int64_t cluster) const {
    return HostOffset(cluster << header_.geometry.cluster_bits());
  }
  // Clusters of the file, the last one perhaps cut short.
  int64_t file_clusters() const;
  // 64-bit words of an L2 entry ("Extended L2 Entries").
  int words_per_entry() const { return header_.extended_l2() ? 2 : 1; }

  // Whether [at, at + bytes) leads out of the file by a cluster or more. What
  // is missing of the last cluster reads as zeros.
  bool LeavesFile(uint64_t at, uint64_t bytes) const;
  // Whether it is to be counted all the same: new refcounts go behind what a
  // file has lost that was cut short, so that none of it lies where entries
  // lead, and what was lost reads as zeros.
  bool WillHave(uint64_t at, uint64_t bytes) const;

  template <typename... Parts>
  void Report(FindingKind kind, HostOffset at, const Parts&... parts) {
    ++report.counts[static_cast<size_t>(kind)];
    if (report.findings.size() < CheckReport::kMaxFindings) {
      report.findings.push_back({kind, at, absl::StrCat(parts...)});
    }
  }

  // Fills `words` from the big-endian ones at `at`. False, and nothing done,
  // where the file is known to be a hole: once much was read it is asked, so
  // that a file of a thousand great holes takes no time.
  Task<IoResult<bool>> ReadWords(HostOffset at, absl::Span<uint64_t> words);
  Task<IoResult<bool>> ReadBytes(HostOffset at, IoView data);
  // The other way round.
  Task<IoStatus> WriteWords(HostOffset at, absl::Span<const uint64_t> words);

  // An L2 table was read. Each is read twice, in a repair more often.
  void StepDone() {
    ++steps_done_;
    if (*progress_)
      (*progress_)(steps_done_, std::max(steps_done_, 2 * tables));
  }

  absl::Status OutOfMemory() const;

  CheckReport report;
  MemoryBudget budget{kBudgetBytes};
  ClusterCounts references{&budget};
  // How often each L2 table is referenced; each is read once, and what it
  // references counts so often.
  ClusterCounts l2_tables{&budget};
  std::vector<uint64_t> refcount_table;
  // The refcount structures cannot be mended where they are.
  bool rebuild = false;
  // They are being made anew, and the file with them longer.
  bool lengthens = false;
  // Another table lies over the header.
  bool header_shared = false;
  CryptHeader crypt;
  int64_t tables = 0;  // L2 tables that were found

 private:
  CheckContext(Child& file, Header header, CheckProgress* progress)
      : file_(file), header_(std::move(header)), progress_(progress) {}

  absl::Status CheckLayout();
  absl::Status FindCryptHeader();
  absl::Status CheckBitmapsExtension() const;

  Child& file_;
  const Header header_;
  CheckProgress* const progress_;
  int64_t steps_done_ = 0;
  int64_t bytes_read_ = 0;
  // Of the file, as it was asked last.
  HostOffset hole_start_;
  HostOffset hole_end_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_CHECK_CONTEXT_H_
