#include "graph/dirty_bitmap.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"

namespace bgfs {

// --- DirtyBits ---------------------------------------------------------------

void DirtyBits::Set(const Range& range) {
  if (range.bytes <= 0) return;
  const Range units = range.AlignedTo(granularity_);
  int64_t begin = units.offset;
  int64_t end = units.end();
  // The first run that touches it, and then all that do, become one.
  auto it = runs_.upper_bound(begin);
  if (it != runs_.begin() && std::prev(it)->second >= begin) --it;
  while (it != runs_.end() && it->first <= end) {
    begin = std::min(begin, it->first);
    end = std::max(end, it->second);
    dirty_bytes_ -= it->second - it->first;
    it = runs_.erase(it);
  }
  runs_.emplace(begin, end);
  dirty_bytes_ += end - begin;
}

void DirtyBits::Clear(const Range& range) {
  if (range.bytes <= 0 ||
      range.offset > Range::kToInfinity - (granularity_ - 1)) {
    return;
  }
  const int64_t begin = AlignUp(range.offset, granularity_);
  const int64_t end = range.end() == Range::kToInfinity
                          ? Range::kToInfinity
                          : AlignDown(range.end(), granularity_);
  auto it = runs_.upper_bound(begin);
  if (it != runs_.begin() && std::prev(it)->second > begin) --it;
  while (it != runs_.end() && it->first < end) {
    const auto [from, to] = *it;
    dirty_bytes_ -= std::min(to, end) - std::max(from, begin);
    runs_.erase(it);
    if (from < begin) runs_.emplace(from, begin);
    if (to > end) runs_.emplace(end, to);
    it = runs_.lower_bound(begin);
  }
}

bool DirtyBits::IsSet(int64_t offset) const {
  return !Next({offset, 1}).empty();
}

Range DirtyBits::Next(const Range& within) const {
  auto it = runs_.upper_bound(within.offset);
  if (it != runs_.begin() && std::prev(it)->second > within.offset) --it;
  if (it == runs_.end()) return Range{};
  return Range::FromTo(std::max(it->first, within.offset),
                       std::min(it->second, within.end()));
}

void DirtyBits::MergeFrom(const DirtyBits& other) {
  for (const auto& [begin, end] : other.runs_) Set(Range::FromTo(begin, end));
}

// --- DirtyBitmap -------------------------------------------------------------

absl::Status DirtyBitmap::CheckFree(absl::string_view what) const {
  if (!busy()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("dirty bitmap \"", name_, "\" cannot be ", what, ": ",
                   frozen() ? "it is frozen by" : "it is in use by",
                   " an operation; wait for that to end, or cancel it"));
}

absl::Status DirtyBitmap::SetEnabled(bool enabled) {
  absl::Status free = CheckFree(enabled ? "enabled" : "disabled");
  if (free.ok()) enabled_ = enabled;
  return free;
}

absl::Status DirtyBitmap::Clear() {
  absl::Status free = CheckFree("cleared");
  if (free.ok()) bits_.Clear({0, Range::kToInfinity});
  return free;
}

absl::Status DirtyBitmap::Freeze() {
  absl::Status free = CheckFree("frozen");
  if (free.ok()) {
    successor_ = std::make_unique<DirtyBits>(bits_.granularity());
  }
  return free;
}

void DirtyBitmap::Abdicate() {
  BGFS_CHECK(frozen());
  bits_.Clear({0, Range::kToInfinity});
  Reclaim();
}

void DirtyBitmap::Reclaim() {
  BGFS_CHECK(frozen());
  bits_.MergeFrom(*successor_);
  successor_ = nullptr;
}

// --- DirtyBitmaps ------------------------------------------------------------

absl::StatusOr<DirtyBitmap*> DirtyBitmaps::Add(std::string name,
                                               int64_t granularity) {
  if (granularity < DirtyBitmap::kMinGranularity ||
      granularity > DirtyBitmap::kMaxGranularity ||
      (granularity & (granularity - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("granularity ", granularity,
                     " of a dirty bitmap: use a power of two "
                     "from ",
                     DirtyBitmap::kMinGranularity, " to ",
                     DirtyBitmap::kMaxGranularity, " bytes"));
  }
  if (name.size() > DirtyBitmap::kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the name of a dirty bitmap is ", name.size(), " bytes long; ",
        DirtyBitmap::kMaxNameBytes, " is the most"));
  }
  if (Find(name) != nullptr) {
    return absl::AlreadyExistsError(absl::StrCat(
        "there is a dirty bitmap \"", name, "\" already; choose another name"));
  }
  bitmaps_.push_back(
      std::make_unique<DirtyBitmap>(std::move(name), granularity));
  return bitmaps_.back().get();
}

DirtyBitmap* DirtyBitmaps::Find(absl::string_view name) const {
  if (name.empty()) return nullptr;
  for (const auto& bitmap : bitmaps_) {
    if (bitmap->name() == name) return bitmap.get();
  }
  return nullptr;
}

absl::Status DirtyBitmaps::Remove(DirtyBitmap* bitmap) {
  if (absl::Status free = bitmap->CheckFree("removed"); !free.ok()) {
    return free;
  }
  std::erase_if(bitmaps_,
                [bitmap](const auto& held) { return held.get() == bitmap; });
  return absl::OkStatus();
}

void DirtyBitmaps::Changed(const Range& range) {
  for (const auto& bitmap : bitmaps_) {
    if (bitmap->enabled()) bitmap->recording().Set(range);
  }
}

// A frozen one keeps what it had: its operation knows what it copies.
void DirtyBitmaps::Cut(int64_t size_bytes) {
  for (const auto& bitmap : bitmaps_) {
    bitmap->recording().Clear({size_bytes, Range::kToInfinity});
  }
}

}  // namespace bgfs
