#include "drivers/qcow2/allocator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"

namespace bgfs::qcow2 {
namespace {

// How much longer than needed a file is made.
constexpr int64_t kMinStepBytes = int64_t{1} << 20;
constexpr int64_t kMaxStepBytes = int64_t{256} << 20;
// Hints: so many are kept, and so many looked at for one that is long enough.
constexpr size_t kMaxKnown = 4096;
constexpr int kLookAt = 32;
// Runs that wait to be freed.
constexpr size_t kMaxFreed = 16384;

}  // namespace

Allocator::Allocator(Geometry geometry, Child* file, Refcounts* refcounts,
                     MetadataMap* metadata, HeaderFile* header_file, bool punch)
    : geometry_(geometry),
      file_(file),
      refcounts_(refcounts),
      metadata_(metadata),
      header_file_(header_file),
      punch_(punch),
      opened_bytes_(file->size()),
      frontier_(1),  // the first one holds the header
      unused_(geometry.ClustersFor(file->size())) {}

// --- Taking ------------------------------------------------------------------

Task<IoResult<Allocator::Space>> Allocator::Allocate(int64_t clusters) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  const IoResult<HostRun> run = co_await Find(clusters);
  if (!run.ok()) co_return run.status();
  if (IoStatus taken = co_await Take(*run); !taken.ok()) {
    Remember(*run);
    co_return taken;
  }
  Space space{*run, run->first >= unused_};
  unused_ = std::max(unused_, run->end());
  co_return space;
}

Task<IoResult<HostRun>> Allocator::Find(int64_t clusters) {
  if (!known_.empty()) {
    const IoResult<HostRun> known = co_await FindKnown(clusters);
    if (!known.ok() || !known->empty()) co_return known;
  }
  co_return co_await FindFurther(clusters);
}

// Among what was given back: the first run that is long enough, or the longest
// of those looked at. A hint may be wrong.
Task<IoResult<HostRun>> Allocator::FindKnown(int64_t clusters) {
  while (!known_.empty()) {
    auto best = known_.begin();
    int looked = 0;
    for (auto it = best; it != known_.end() && looked < kLookAt; ++it) {
      ++looked;
      if (it->second > best->second) best = it;
      if (best->second >= clusters) break;
    }
    const HostRun hint = {best->first, best->second};
    known_.erase(best);
    const int64_t block = refcounts_->BlockOf(hint.first);
    if (IoStatus s = co_await refcounts_->Require(block); !s.ok()) {
      Remember(hint);
      co_return s;
    }
    const HostRun free =
        refcounts_->FindFree(hint.first, std::min(clusters, hint.clusters));
    if (!free.empty() && free.first < hint.end()) {
      const HostRun run = {free.first,
                           std::min(free.clusters, hint.end() - free.first)};
      Remember({run.end(), hint.end() - run.end()});
      co_return run;
    }
    // The rest of the hint lies in the next block.
    const HostCluster next = refcounts_->StartOfBlock(block + 1);
    if (next < hint.end()) Remember({next, hint.end() - next});
  }
  co_return HostRun{};
}

Task<IoResult<HostRun>> Allocator::FindFurther(int64_t clusters) {
  const HostCluster limit(kMaxNodeBytes >> geometry_.cluster_bits());
  while (frontier_ < limit) {
    const int64_t block = refcounts_->BlockOf(frontier_);
    if (!refcounts_->HasBlock(block)) {
      if (IoStatus s = co_await LengthenTo(frontier_ + 1); !s.ok()) co_return s;
      const IoResult<HostCluster> next =
          co_await refcounts_->AddBlock(frontier_);
      if (!next.ok()) co_return next.status();
      frontier_ = *next;
      unused_ = std::max(unused_, frontier_);
      continue;
    }
    if (IoStatus s = co_await refcounts_->Require(block); !s.ok()) co_return s;
    const HostRun run = refcounts_->FindFree(frontier_, clusters);
    if (!run.empty()) {
      frontier_ = run.end();
      co_return run;
    }
    frontier_ = refcounts_->StartOfBlock(block + 1);
  }
  co_return IoError(ENOSPC);
}

// A run whose counts are cached and 0.
Task<IoStatus> Allocator::Take(HostRun run) {
  const HostOffset at = geometry_.StartOf(run.first);
  const int64_t bytes = run.clusters * geometry_.cluster_size();
  const MetadataKind kind = metadata_->Overlap(at, bytes, MetadataKind::kData);
  if (kind != MetadataKind::kData) {
    co_return co_await header_file_->MarkCorrupt(
        absl::StrCat("its refcounts call a cluster free that holds ",
                     NameOf(kind), ", at ", at.value()));
  }
  BGFS_CO_TRY(co_await LengthenTo(run.end()));
  co_return co_await SetCounts(run, 1);
}

Task<IoStatus> Allocator::SetCounts(HostRun run, uint64_t count) {
  for (HostCluster c = run.first; c < run.end(); c += 1) {
    BGFS_CO_TRY(co_await refcounts_->Require(refcounts_->BlockOf(c)));
    refcounts_->Set(c, count);
  }
  co_return IoStatus();
}

Task<IoStatus> Allocator::LengthenTo(HostCluster end) {
  const int64_t needed = geometry_.StartOf(end).value();
  const int64_t size = file_->size();
  if (needed <= size) co_return IoStatus();
  const int64_t step = std::clamp(size / 4, kMinStepBytes, kMaxStepBytes);
  IoStatus status;
  for (const int64_t to : {std::max(needed, size + step), needed}) {
    status = co_await file_->Truncate(nullptr, to, /*exact=*/false,
                                      Preallocation::kOff);
    if (status.ok()) co_return status;
  }
  // A block device does not grow.
  co_return status.error() == ENOTSUP ? IoError(ENOSPC) : status;
}

// A run ends where the block of the next clusters stands in front of them. So
// where they have none yet it takes the first cluster of the run.
Task<IoResult<HostRun>> Allocator::FindWhole(int64_t clusters) {
  HostRun run;
  while (run.clusters < clusters) {
    const int64_t block = refcounts_->BlockOf(frontier_);
    if (!run.empty() && frontier_ == run.end() &&
        refcounts_->MayAddBlock(block)) {
      if (IoStatus s = co_await LengthenTo(run.first + 1); !s.ok()) co_return s;
      const IoStatus added = co_await refcounts_->AddBlock(block, run.first);
      if (!added.ok()) co_return added;
      run = {run.first + 1, run.clusters - 1};
      unused_ = std::max(unused_, run.first);
    }
    const IoResult<HostRun> next =
        co_await FindFurther(clusters - run.clusters);
    if (!next.ok()) co_return next;
    if (!run.empty() && next->first == run.end()) {
      run.clusters += next->clusters;
    } else {
      run = *next;  // what came before is too short
    }
  }
  co_return run;
}

Task<IoResult<HostRun>> Allocator::AllocateWhole(int64_t clusters) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  // What is passed over is free still, and looked at again.
  const HostCluster from = frontier_;
  const IoResult<HostRun> run = co_await FindWhole(clusters);
  frontier_ = from;
  if (!run.ok()) co_return run;
  unused_ = std::max(unused_, run->end());
  if (IoStatus taken = co_await Take(*run); !taken.ok()) co_return taken;
  co_return run;
}

// --- Giving back -------------------------------------------------------------

void Allocator::Remember(HostRun run) {
  if (run.clusters <= 0) return;
  auto after = known_.lower_bound(run.first);
  if (after != known_.end() && after->first == run.end()) {
    run.clusters += after->second;
    after = known_.erase(after);
  }
  if (after != known_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == run.first) {
      before->second += run.clusters;
      return;
    }
  }
  known_.insert_or_assign(run.first, run.clusters);
  if (known_.size() <= kMaxKnown) return;
  // Forgotten, but found again by looking.
  const auto last = std::prev(known_.end());
  frontier_ = std::min(frontier_, last->first);
  known_.erase(last);
}

Task<void> Allocator::Undo(HostRun run) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  // Where it fails the clusters are lost, which is no harm.
  if ((co_await SetCounts(run, 0)).ok()) Remember(run);
}

void Allocator::FreeLater(HostRun run) {
  if (!freed_.empty() && freed_.back().end() == run.first) {
    freed_.back().clusters += run.clusters;
  } else {
    freed_.push_back(run);
  }
}

std::vector<HostRun> Allocator::TakeFreed() {
  return std::exchange(freed_, {});
}

void Allocator::PutBack(const std::vector<HostRun>& runs) {
  freed_.insert(freed_.end(), runs.begin(), runs.end());
}

bool Allocator::pressed() const {
  return freed_.size() > kMaxFreed || refcounts_->pressed();
}

Task<std::vector<HostRun>> Allocator::LowerShared(std::vector<HostRun> runs) {
  const Mutex::Guard guard = co_await mutex_.Lock();
  std::vector<HostRun> last;
  for (const HostRun& run : runs) {
    for (HostCluster c = run.first; c < run.end(); c += 1) {
      const int64_t block = refcounts_->BlockOf(c);
      // A count that cannot be read is left too high.
      if (!refcounts_->HasBlock(block) ||
          !(co_await refcounts_->Require(block)).ok()) {
        continue;
      }
      const uint64_t count = refcounts_->Get(c);
      if (count > 1) {
        refcounts_->Set(c, count - 1);
      } else if (count == 0) {
        (co_await header_file_->MarkCorrupt(absl::StrCat(
             "its refcounts say that nothing refers to the cluster at ",
             geometry_.StartOf(c).value(), ", which is in use")))
            .Ignore();
      } else if (!last.empty() && last.back().end() == c) {
        ++last.back().clusters;
      } else {
        last.push_back({c, 1});
      }
    }
  }
  co_return last;
}

Task<void> Allocator::Release(std::vector<HostRun> runs) {
  if (runs.empty()) co_return;
  const std::vector<HostRun> last = co_await LowerShared(std::move(runs));
  // Nobody else can take them: their count is still 1.
  for (const HostRun& run : last) {
    if (!punch_) break;
    (co_await file_->Discard(nullptr, geometry_.StartOf(run.first).value(),
                             run.clusters * geometry_.cluster_size()))
        .Ignore();  // advisory
  }
  const Mutex::Guard guard = co_await mutex_.Lock();
  for (const HostRun& run : last) {
    if ((co_await SetCounts(run, 0)).ok()) Remember(run);
  }
}

Task<void> Allocator::TrimFile() {
  const int64_t used =
      std::max(opened_bytes_, geometry_.StartOf(unused_).value());
  if (file_->size() <= used) co_return;
  (co_await file_->Truncate(nullptr, used, /*exact=*/true, Preallocation::kOff))
      .Ignore();
}

}  // namespace bgfs::qcow2
