#include "drivers/qcow2/check_walk.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/entries.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/refcount_entries.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kWordBytes = sizeof(uint64_t);
// Tables are read in pieces of at most so much, unless a cluster is larger.
constexpr int64_t kPieceBytes = int64_t{256} << 10;
// L1 tables of snapshots may be as many bytes as the file has, and a little
// more for those that are partly in it; then they lie on each other. The same
// goes for the tables of bitmaps.
constexpr int64_t kSpareTableBytes = int64_t{64} << 20;

constexpr uint64_t kSubclustersAllocated = 0xffffffff;

HostOffset Host(uint64_t offset) {
  return HostOffset(static_cast<int64_t>(offset));
}

bool MustOverlap(const CheckContext& context, int64_t table_bytes) {
  return table_bytes > kSpareTableBytes &&
         table_bytes - kSpareTableBytes > context.file().size();
}

}  // namespace

// --- Reading tables ----------------------------------------------------------

Task<IoStatus> ForEachWord(CheckContext& context, HostOffset table,
                           int64_t entries, VisitWords visit) {
  // What is not in the file is zeros, of which nobody learns anything.
  const int64_t left = context.file().size() - table.value();
  if (left <= 0) co_return IoStatus();
  entries = std::min(entries, (left + kWordBytes - 1) / kWordBytes);
  std::vector<uint64_t> piece(
      static_cast<size_t>(std::min(entries, kPieceBytes / kWordBytes)));
  for (int64_t done = 0; done < entries;) {
    const int64_t count =
        std::min(entries - done, static_cast<int64_t>(piece.size()));
    const absl::Span<uint64_t> words(piece.data(), static_cast<size_t>(count));
    const HostOffset at = table + done * kWordBytes;
    const IoResult<bool> read = co_await context.ReadWords(at, words);
    if (!read.ok()) co_return read.status();
    if (*read && visit(done, words)) {
      BGFS_CO_TRY(co_await context.WriteWords(at, words));
    }
    done += count;
  }
  co_return IoStatus();
}

namespace {

// How many L2 tables lie one after the other from `first` on; as many as one
// read takes.
int64_t CountRun(const CheckContext& context, int64_t first) {
  const int64_t most =
      std::max<int64_t>(1, kPieceBytes / context.cluster_size());
  int64_t run = 1;
  while (run < most && context.l2_tables.Get(first + run) != 0) ++run;
  return run;
}

bool OnlyAnL2Table(const CheckContext& context, int64_t cluster) {
  return context.references.Get(cluster) == context.l2_tables.Get(cluster);
}

}  // namespace

Task<IoStatus> ForEachL2Table(CheckContext& context, bool active_only,
                              VisitL2Table visit) {
  const int64_t table_words = context.cluster_size() / kWordBytes;
  std::vector<uint64_t> buffer;
  int64_t run = 0;
  for (int64_t first = context.l2_tables.NextUsed(0); first >= 0;
       first = context.l2_tables.NextUsed(first + run)) {
    run = CountRun(context, first);
    buffer.resize(static_cast<size_t>(run * table_words));
    const IoResult<bool> read = co_await context.ReadWords(
        context.StartOf(first), absl::MakeSpan(buffer));
    if (!read.ok()) co_return read.status();
    for (int64_t i = 0; i < run; ++i) {
      context.StepDone();
      const bool wanted = !active_only || context.l2_tables.HasFlag(
                                              first + i, CheckContext::kActive);
      if (!*read || !wanted) continue;
      const absl::Span<uint64_t> words(&buffer[i * table_words],
                                       static_cast<size_t>(table_words));
      const HostOffset table = context.StartOf(first + i);
      if (visit(table, words) && OnlyAnL2Table(context, first + i)) {
        BGFS_CO_TRY(co_await context.WriteWords(table, words));
      }
    }
  }
  co_return IoStatus();
}

// --- The walk ----------------------------------------------------------------

Task<absl::Status> ReferenceWalk::Run(bool refcount_structures) {
  c_.references.Clear();
  c_.l2_tables.Clear();
  c_.tables = 0;
  c_.header_shared = false;
  CountMetadata(0, static_cast<uint64_t>(c_.cluster_size()), "the header");
  CountMetadata(c_.crypt.offset, c_.crypt.bytes, "the encryption header");
  std::vector<BitmapEntry> bitmaps;
  if (const auto& extension = c_.header().bitmaps; extension.has_value()) {
    CountMetadata(extension->directory_offset, extension->directory_bytes,
                  "the bitmap directory");
    auto read = co_await ReadBitmapDirectory(c_.file(), c_.header());
    if (!read.ok()) co_return read.status();
    bitmaps = *std::move(read);
  }
  int64_t bitmap_table_bytes = 0;
  for (const BitmapEntry& bitmap : bitmaps) {
    const int64_t bytes = bitmap.table_entries * kWordBytes;
    CountMetadata(static_cast<uint64_t>(bitmap.table.value()),
                  static_cast<uint64_t>(bytes), "a bitmap table");
    bitmap_table_bytes += bytes;
    if (MustOverlap(c_, bitmap_table_bytes)) {
      co_return absl::InvalidArgumentError(
          "the tables of the bitmaps lie on each other");
    }
  }
  if (refcount_structures) {
    const IoStatus counted = co_await CountRefcountStructures();
    if (!counted.ok()) co_return counted.ToStatus("reading the refcount table");
  }
  const IoStatus l1 = co_await CountL1(c_.header().l1_table,
                                       c_.header().l1_entries, /*active=*/true);
  if (!l1.ok()) co_return l1.ToStatus("reading the L1 table");
  if (auto s = co_await CountSnapshots(); !s.ok()) co_return s;

  const auto count_table = [this](HostOffset table,
                                  absl::Span<uint64_t> words) {
    CountL2Table(table, words);
    return false;
  };
  const IoStatus l2 =
      co_await ForEachL2Table(c_, /*active_only=*/false, count_table);
  if (!l2.ok()) co_return l2.ToStatus("reading an L2 table");
  const IoStatus bits = co_await CountBitmapData(bitmaps);
  if (!bits.ok()) co_return bits.ToStatus("reading a bitmap table");
  if (c_.budget.exhausted()) co_return c_.OutOfMemory();
  if (refcount_structures) JudgeRefcountStructures();
  co_return absl::OkStatus();
}

void ReferenceWalk::Count(const Area& area) {
  if (area.bytes == 0) return;
  if (c_.LeavesFile(area.at, area.bytes) && !c_.WillHave(area.at, area.bytes)) {
    c_.Report(FindingKind::kOutOfFile, Host(area.at), area.what, " at ",
              area.at, " (", area.bytes,
              " bytes) lies past the end of the file");
    return;
  }
  const int bits = c_.geometry().cluster_bits();
  const auto last = static_cast<int64_t>((area.at + area.bytes - 1) >> bits);
  bool overlaps = false;
  for (auto i = static_cast<int64_t>(area.at >> bits); i <= last; ++i) {
    overlaps = overlaps || c_.references.HasFlag(i, CheckContext::kMetadata);
    c_.references.Add(i, area.weight);
    if (area.metadata) c_.references.SetFlag(i, CheckContext::kMetadata);
  }
  if (overlaps) {
    if (area.metadata && area.at >> bits == 0) c_.header_shared = true;
    c_.Report(FindingKind::kOverlap, Host(area.at), area.what, " at ", area.at,
              " lies where other metadata is");
  }
}

Task<IoStatus> ReferenceWalk::CountRefcountStructures() {
  const HostOffset table = Host(c_.header().refcount_table_offset);
  const int64_t bytes = int64_t{c_.header().refcount_table_clusters}
                        << c_.geometry().cluster_bits();
  CountMetadata(c_.header().refcount_table_offset, static_cast<uint64_t>(bytes),
                "the refcount table");
  c_.refcount_table.assign(static_cast<size_t>(bytes / kWordBytes), 0);
  const auto keep = [this](int64_t index, absl::Span<uint64_t> words) {
    std::copy(words.begin(), words.end(), c_.refcount_table.begin() + index);
    return false;
  };
  BGFS_CO_TRY(co_await ForEachWord(c_, table, bytes / kWordBytes, keep));
  for (size_t i = 0; i < c_.refcount_table.size(); ++i) {
    const uint64_t raw = c_.refcount_table[i];
    if (raw == 0) continue;
    const uint64_t block = raw & ~kRefcountTableReserved;
    const char* fault = nullptr;
    if ((raw & kRefcountTableReserved) != 0) {
      fault = " has reserved bits set";
    } else if (!c_.geometry().IsClusterStart(Host(block))) {
      fault = " points to no cluster's start";
    } else if (block >= static_cast<uint64_t>(c_.file().size())) {
      fault = " points past the end of the file";
    }
    if (fault != nullptr) {
      c_.rebuild = true;
      c_.Report(FindingKind::kRefcountTable, Host(block), "entry ", i,
                " of the refcount table", fault);
      continue;
    }
    CountMetadata(block, static_cast<uint64_t>(c_.cluster_size()),
                  "a refcount block");
  }
  co_return IoStatus();
}

// A structure that something else points to cannot be written to.
void ReferenceWalk::JudgeRefcountStructures() {
  const auto judge = [this](uint64_t at, absl::string_view what) {
    // Nothing is counted out there, and what leads there has been reported.
    if (at >= static_cast<uint64_t>(c_.file().size())) return;
    const int64_t cluster = c_.ClusterOf(Host(at));
    if (c_.references.Get(cluster) <= 1) return;
    c_.rebuild = true;
    c_.Report(FindingKind::kRefcountTable, c_.StartOf(cluster), what, " at ",
              at, " is referenced ", c_.references.Get(cluster), " times");
  };
  const uint64_t table = c_.header().refcount_table_offset;
  for (uint32_t i = 0; i < c_.header().refcount_table_clusters; ++i) {
    judge(table + (uint64_t{i} << c_.geometry().cluster_bits()),
          "the refcount table");
  }
  for (const uint64_t raw : c_.refcount_table) {
    if (raw != 0 && (raw & kRefcountTableReserved) == 0) {
      judge(raw, "a refcount block");
    }
  }
  const uint64_t table_bytes = c_.refcount_table.size() * kWordBytes;
  if (table_bytes == 0 || c_.LeavesFile(table, table_bytes)) c_.rebuild = true;
}

Task<absl::Status> ReferenceWalk::CountSnapshots() {
  const Header& header = c_.header();
  absl::StatusOr<SnapshotTable> table =
      co_await ReadSnapshotTable(c_.file(), header);
  if (!table.ok()) co_return table.status();
  const auto report = [this](size_t i, const SnapshotEntry& entry,
                             absl::string_view fault) {
    c_.Report(FindingKind::kSnapshot, Host(entry.l1_table), "snapshot ", i,
              ": ", fault);
  };
  CountMetadata(header.snapshots_offset, static_cast<uint64_t>(table->bytes),
                "the snapshot table");
  if (header.data_file() && !table->entries.empty()) {
    report(0, table->entries[0], "an image with a data file has snapshots");
  }
  for (size_t i = 0; i < table->entries.size(); ++i) {
    const SnapshotEntry& entry = table->entries[i];
    if (header.version >= 3 && entry.extra_bytes < kSnapshotExtraNeeded) {
      report(i, entry, "its entry has not the extra data of version 3");
    }
    if (entry.l1_table % static_cast<uint64_t>(c_.cluster_size()) != 0 ||
        entry.l1_table >> 63 != 0) {
      report(i, entry, "its L1 table is not aligned to a cluster");
      continue;
    }
    if (entry.l1_entries > kMaxL1Bytes / kWordBytes) {
      report(i, entry, "its L1 table has more than 32 MiB");
      continue;
    }
    const IoStatus counted =
        co_await CountL1(Host(entry.l1_table), entry.l1_entries,
                         /*active=*/false);
    if (!counted.ok()) co_return counted.ToStatus("reading a snapshot's L1");
    if (MustOverlap(c_, l1_bytes_)) {
      co_return absl::InvalidArgumentError(
          "the L1 tables of the snapshots lie on each other");
    }
  }
  co_return absl::OkStatus();
}

Task<IoStatus> ReferenceWalk::CountL1(HostOffset table, int64_t entries,
                                      bool active) {
  CountMetadata(static_cast<uint64_t>(table.value()),
                static_cast<uint64_t>(entries * kWordBytes),
                active ? "the L1 table" : "a snapshot's L1 table");
  l1_bytes_ += entries * kWordBytes;
  const auto count = [&](int64_t index, absl::Span<uint64_t> words) {
    for (size_t i = 0; i < words.size(); ++i) {
      if (words[i] == 0) continue;
      CountL1Entry(words[i], table, index + static_cast<int64_t>(i), active);
    }
    return false;
  };
  co_return co_await ForEachWord(c_, table, entries, count);
}

void ReferenceWalk::CountL1Entry(uint64_t raw, HostOffset table, int64_t index,
                                 bool active) {
  const uint64_t l2 = raw & kEntryOffsetMask;
  const HostOffset at = table + index * kWordBytes;
  if ((raw & kL1Reserved) != 0) {
    c_.Report(FindingKind::kReservedBits, at, "L1 entry ", index, " at ",
              at.value(), " has reserved bits set");
  } else if (l2 == 0) {
    c_.Report(FindingKind::kBadEntry, at, "L1 entry ", index, " at ",
              at.value(), " is marked as used, without an L2 table");
  }
  if (l2 == 0) return;
  const auto bytes = static_cast<uint64_t>(c_.cluster_size());
  if (!c_.geometry().IsClusterStart(Host(l2))) {
    c_.Report(FindingKind::kMisaligned, at, "L1 entry ", index, " at ",
              at.value(), " points to no cluster's start");
    Count({l2, bytes, 1, false, "an L2 table"});
    return;
  }
  const int64_t cluster = c_.ClusterOf(Host(l2));
  if (c_.l2_tables.Get(cluster) != 0) {
    c_.references.Add(cluster, 1);
  } else {
    CountMetadata(l2, bytes, "an L2 table");
    if (c_.LeavesFile(l2, bytes)) return;
    ++c_.tables;
  }
  c_.l2_tables.Add(cluster, 1);
  if (active) c_.l2_tables.SetFlag(cluster, CheckContext::kActive);
}

// --- What L2 and bitmap tables reference -------------------------------------

void ReferenceWalk::CountL2Table(HostOffset table,
                                 absl::Span<const uint64_t> words) {
  const int64_t cluster = c_.ClusterOf(table);
  const uint64_t weight = c_.l2_tables.Get(cluster);
  const bool active = c_.l2_tables.HasFlag(cluster, CheckContext::kActive);
  const auto step = static_cast<size_t>(c_.words_per_entry());
  for (size_t i = 0; i < words.size(); i += step) {
    const uint64_t subclusters = step == 2 ? words[i + 1] : 0;
    if (words[i] == 0 && subclusters == 0) continue;
    const HostOffset entry = table + static_cast<int64_t>(i) * kWordBytes;
    if ((words[i] & kEntryCompressed) != 0) {
      if (active) ++c_.report.compressed_clusters;
      if (active) ++c_.report.allocated_clusters;
      CountCompressed(words[i], subclusters, entry, weight);
    } else {
      if (active && (words[i] & kEntryOffsetMask) != 0) {
        ++c_.report.allocated_clusters;
      }
      CountStandard(words[i], subclusters, entry, weight);
    }
  }
}

void ReferenceWalk::CountCompressed(uint64_t raw, uint64_t subclusters,
                                    HostOffset entry, uint64_t weight) {
  const char* fault = nullptr;
  if ((raw & kEntryCopied) != 0) {
    fault = " is compressed and marked COPIED";
  } else if (c_.header().data_file()) {
    fault = " is compressed in an image with a data file";
  } else if (subclusters != 0) {
    fault = " is compressed and has subclusters";
  }
  if (fault != nullptr) {
    c_.Report(FindingKind::kBadEntry, entry, "the L2 entry at ", entry.value(),
              fault);
  }
  if (c_.header().data_file() || subclusters != 0) return;
  const L2Entry decoded = DecodeCompressedEntry(raw, c_.geometry());
  if (decoded.fault != nullptr) {
    c_.Report(FindingKind::kOutOfFile, entry, "the L2 entry at ", entry.value(),
              ": ", decoded.fault);
    return;
  }
  Count({static_cast<uint64_t>(decoded.host.value()),
         static_cast<uint64_t>(decoded.compressed_bytes), weight, false,
         "a compressed cluster"});
}

void ReferenceWalk::CountStandard(uint64_t raw, uint64_t subclusters,
                                  HostOffset entry, uint64_t weight) {
  const bool zero = (raw & kEntryZero) != 0;
  const bool copied = (raw & kEntryCopied) != 0;
  const uint64_t offset = raw & kEntryOffsetMask;
  const bool data_file = c_.header().data_file();
  const bool allocated = offset != 0 || (data_file && copied && !zero);
  const char* fault = nullptr;
  if (zero && (c_.header().version < 3 || c_.header().extended_l2())) {
    fault = " has the zero flag, which this image cannot have";
  } else if (!allocated && (subclusters & kSubclustersAllocated) != 0) {
    fault = " has subclusters, but no cluster";
  } else if ((subclusters >> 32 & subclusters) != 0) {
    fault = " has subclusters that are both data and zeros";
  } else if (!allocated && copied && !zero) {
    fault = " is marked as used, without an offset";
  }
  if (fault != nullptr) {
    c_.Report(FindingKind::kBadEntry, entry, "the L2 entry at ", entry.value(),
              fault);
  }
  if ((raw & kL2StandardReserved) != 0) {
    c_.Report(FindingKind::kReservedBits, entry, "the L2 entry at ",
              entry.value(), " has reserved bits set");
  }
  if (offset == 0) return;
  if (!c_.geometry().IsClusterStart(Host(offset))) {
    c_.Report(FindingKind::kMisaligned, entry, "the L2 entry at ",
              entry.value(), " points to no cluster's start");
  }
  if (data_file) return;
  Count({offset, static_cast<uint64_t>(c_.cluster_size()), weight, false,
         "a data cluster"});
}

Task<IoStatus> ReferenceWalk::CountBitmapData(
    const std::vector<BitmapEntry>& bitmaps) {
  for (const BitmapEntry& bitmap : bitmaps) {
    const auto count = [&](int64_t index, absl::Span<uint64_t> words) {
      for (size_t i = 0; i < words.size(); ++i) {
        const int64_t number = index + static_cast<int64_t>(i);
        CountBitmapTableEntry(words[i], bitmap.table + number * kWordBytes);
      }
      return false;
    };
    BGFS_CO_TRY(
        co_await ForEachWord(c_, bitmap.table, bitmap.table_entries, count));
  }
  co_return IoStatus();
}

void ReferenceWalk::CountBitmapTableEntry(uint64_t raw, HostOffset entry) {
  const uint64_t offset = raw & kEntryOffsetMask;
  if ((raw & kBitmapTableReserved) != 0 ||
      (offset != 0 && (raw & kBitmapTableAllOnes) != 0)) {
    c_.Report(FindingKind::kReservedBits, entry, "the bitmap table entry at ",
              entry.value(), " has reserved bits set");
  }
  if (offset == 0) return;
  if (!c_.geometry().IsClusterStart(Host(offset))) {
    c_.Report(FindingKind::kMisaligned, entry, "the bitmap table entry at ",
              entry.value(), " points to no cluster's start");
  }
  Count({offset, static_cast<uint64_t>(c_.cluster_size()), 1, false,
         "a bitmap's data"});
}

}  // namespace bgfs::qcow2
