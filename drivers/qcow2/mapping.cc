#include "drivers/qcow2/mapping.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"
#include "graph/async/buffer.h"
#include "graph/async/check.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kL1ReadBytes = int64_t{1} << 20;
// A lookup over a long range stops extending after so many slices, so that
// one request does not keep the loop from others.
constexpr int kMaxSlicesPerLookup = 1024;
// A damaged image is damaged in many places; the log hears of a few.
constexpr int kMaxReports = 20;

// A file that was cut short is no broken format.
constexpr char kDataCutOff[] =
    "its data lies past the end of the file; is the file complete?";
constexpr char kTableCutOff[] =
    "its L2 table ends past the end of the file; is the file complete?";

// Appends `next` to `run` where the two can be treated as one.
bool Append(Extent& run, const Extent& next) {
  if (run.bytes == 0) {
    run = next;
    return true;
  }
  if (next.kind != run.kind || next.copied != run.copied ||
      run.kind == ClusterKind::kCompressed) {
    return false;
  }
  const bool has_place = run.kind == ClusterKind::kStandard ||
                         run.kind == ClusterKind::kZeroAllocated;
  if (has_place && next.host != run.host + run.bytes) return false;
  run.bytes += next.bytes;
  return true;
}

}  // namespace

Mapping::Mapping(const Header& header, Child* file, int64_t l2_cache_bytes,
                 bool writable, Report report)
    : file_(file),
      geometry_(header.geometry),
      zero_flag_(header.zero_flag()),
      l1_table_(header.l1_table),
      l1_(static_cast<size_t>(writable ? header.l1_entries
                                       : header.l1_entries_needed)),
      l2_cache_(file, header.geometry, header.l1_entries_needed, l2_cache_bytes,
                writable),
      report_(std::move(report)) {}

Task<IoStatus> Mapping::Load() {
  const auto bytes = static_cast<int64_t>(l1_.size() * sizeof(uint64_t));
  auto* table = reinterpret_cast<char*>(l1_.data());
  for (int64_t at = 0; at < bytes; at += kL1ReadBytes) {
    const int64_t piece = std::min(kL1ReadBytes, bytes - at);
    BGFS_CO_TRY(co_await file_->Read(nullptr, l1_table_.value() + at,
                                     IoView(table + at, piece)));
  }
  for (uint64_t& entry : l1_) entry = FromBig64(entry);
  co_return IoStatus();
}

// What no entry can tell by itself: whether it leads out of the file. QEMU may
// leave the last cluster of a file cut short; what is missing reads as zeros.
const char* Mapping::FaultOf(const L2Entry& entry) const {
  if (entry.fault != nullptr) return entry.fault;
  const bool has_data = entry.kind == ClusterKind::kStandard ||
                        entry.kind == ClusterKind::kCompressed;
  if (has_data && entry.host.value() >= file_->size()) {
    return kDataCutOff;
  }
  return nullptr;
}

// The part of the entry's cluster from `at` on.
Extent Mapping::Describe(const L2Entry& entry, GuestOffset at) const {
  Extent extent;
  extent.start = at;
  extent.bytes = geometry_.cluster_size() - geometry_.InCluster(at);
  extent.kind = entry.kind;
  extent.host = entry.host;
  if (entry.kind == ClusterKind::kStandard ||
      entry.kind == ClusterKind::kZeroAllocated) {
    extent.copied = entry.copied;
    extent.host += geometry_.InCluster(at);
  }
  extent.compressed_bytes = entry.compressed_bytes;
  return extent;
}

const char* Mapping::FaultOf(const L1Entry& table) const {
  if (table.fault != nullptr) return table.fault;
  if (table.l2_table.value() > file_->size() - geometry_.cluster_size() &&
      table.allocated()) {
    return kTableCutOff;
  }
  return nullptr;
}

Mapping::Step Mapping::LookInSlice(absl::Span<const uint64_t> entries,
                                   GuestOffset at, int64_t bytes) const {
  Step step;
  const L2Index index = geometry_.L2IndexOf(geometry_.ClusterOf(at));
  auto i = static_cast<size_t>(index.value() % l2_cache_.slice_entries());
  for (; i < entries.size() && step.extent.bytes < bytes; ++i) {
    const L2Entry entry = DecodeL2Entry(entries[i], geometry_, zero_flag_);
    if (const char* fault = FaultOf(entry); fault != nullptr) {
      if (step.extent.bytes == 0) step.fault = fault;
      break;
    }
    if (!Append(step.extent, Describe(entry, at + step.extent.bytes))) break;
  }
  return step;
}

Mapping::Step Mapping::Look(GuestOffset at, int64_t bytes) {
  const GuestCluster cluster = geometry_.ClusterOf(at);
  const L1Index l1_index = geometry_.L1IndexOf(cluster);
  const L1Entry table = Table(l1_index);
  Step step;
  step.fault = FaultOf(table);
  if (step.fault != nullptr) return step;
  if (!table.allocated()) {
    step.extent.start = at;
    step.extent.bytes = geometry_.bytes_per_l2_table() -
                        at.value() % geometry_.bytes_per_l2_table();
  } else {
    const HostOffset slice =
        l2_cache_.SliceOf(table.l2_table, geometry_.L2IndexOf(cluster));
    const absl::Span<const uint64_t> entries = l2_cache_.Find(slice);
    if (!entries.empty()) return LookInSlice(entries, at, bytes);
    step.missing_slice = slice;
  }
  return step;
}

// --- Changes of the L1 table -------------------------------------------------

void Mapping::SetTable(L1Index index, HostOffset table) {
  l1_[static_cast<size_t>(index.value())] =
      static_cast<uint64_t>(table.value()) | kEntryCopied;
  changed_.insert(index.value());
}

std::vector<Mapping::L1Change> Mapping::TakeL1Changes() {
  std::vector<L1Change> changes;
  for (const int64_t index : changed_) {
    changes.push_back({L1Index(index), l1_[static_cast<size_t>(index)]});
  }
  changed_.clear();
  return changes;
}

void Mapping::PutBack(const std::vector<L1Change>& changes) {
  for (const L1Change& change : changes) changed_.insert(change.index.value());
}

std::vector<uint64_t> Mapping::CopyL1(int64_t entries) const {
  std::vector<uint64_t> copy(static_cast<size_t>(entries));
  for (size_t i = 0; i < l1_.size(); ++i) copy[i] = FromBig64(l1_[i]);
  return copy;
}

void Mapping::MoveL1(HostOffset l1_table, int64_t entries) {
  l1_table_ = l1_table;
  l1_.resize(static_cast<size_t>(entries));
}

// --- Lookups -----------------------------------------------------------------

IoStatus Mapping::Fault(GuestOffset at, absl::string_view fault) {
  if (report_ && reports_ < kMaxReports) {
    ++reports_;
    report_(absl::StrCat("the image is damaged at guest offset ", at.value(),
                         ": ", fault));
  }
  return IoError(EIO);
}

Task<IoResult<Extent>> Mapping::Lookup(Request& request, GuestOffset start,
                                       int64_t bytes) {
  BGFS_CHECK(bytes > 0);
  Extent run;
  int slices = 0;
  while (run.bytes < bytes && slices < kMaxSlicesPerLookup) {
    const GuestOffset at = start + run.bytes;
    const Step step = Look(at, bytes - run.bytes);
    if (step.missing_slice != HostOffset()) {
      const IoStatus loaded =
          co_await l2_cache_.Load(request, step.missing_slice);
      if (loaded.ok()) continue;
      if (run.bytes > 0) break;
      co_return loaded;
    }
    if (step.fault != nullptr) {
      if (run.bytes > 0) break;
      if (on_broken_entry_ && step.fault != kDataCutOff &&
          step.fault != kTableCutOff) {
        on_broken_entry_();
      }
      co_return Fault(at, step.fault);
    }
    if (!Append(run, step.extent)) break;
    ++slices;
  }
  run.bytes = std::min(run.bytes, bytes);
  co_return run;
}

}  // namespace bgfs::qcow2
