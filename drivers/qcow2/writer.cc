#include "drivers/qcow2/writer.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/snapshot_table.h"
#include "graph/async/buffer.h"
#include "graph/status.h"

namespace bgfs::qcow2 {
namespace {

// Of one request's extents, so many are written at the same time.
constexpr int64_t kExtentsAtOnce = 16;
// Of all requests together, so much is copied at the same time.
constexpr int64_t kCopyBytes = int64_t{32} << 20;
constexpr int64_t kZerosBytes = int64_t{1} << 20;
// Of the L1 tables of all snapshots together, so much is protected.
constexpr int64_t kMaxSnapshotL1Bytes = int64_t{256} << 20;

// The part of an extent that begins `skip` bytes into it.
Extent After(Extent extent, int64_t skip) {
  extent.start += skip;
  extent.bytes -= skip;
  extent.host += skip;
  return extent;
}

}  // namespace

absl::Status CheckWritable(const Header& header, int64_t file_bytes) {
  const Geometry& geometry = header.geometry;
  if (header.corrupt()) {
    return absl::FailedPreconditionError(
        "the image is marked as corrupt; repair it with bgfs check "
        "--repair=all, or open it read-only");
  }
  if (header.bitmaps) {
    return absl::FailedPreconditionError(
        "the image carries persistent bitmaps, which writing in this version "
        "would make wrong; remove them (qemu-img bitmap --remove), or open it "
        "read-only");
  }
  const int64_t table_bytes =
      header.refcount_table_clusters * geometry.cluster_size();
  const HostOffset table(static_cast<int64_t>(header.refcount_table_offset));
  if (table_bytes == 0 || table_bytes > kMaxRefcountTableBytes ||
      !geometry.IsClusterStart(table) || table.value() <= 0 ||
      table.value() > file_bytes - table_bytes) {
    return absl::InvalidArgumentError(
        "its refcount table cannot be used; repair the image with bgfs check "
        "--repair=all, or open it read-only");
  }
  if (header.l1_table.value() > file_bytes - header.l1_entries * 8) {
    return absl::InvalidArgumentError(
        "its L1 table ends past the end of the file; is the file complete?");
  }
  return absl::OkStatus();
}

Writer::Writer(const Header& header, Driver* image, Mapping* mapping,
               HeaderFile::Report report)
    : geometry_(header.geometry),
      zero_flag_(header.zero_flag()),
      resizable_(header.version >= 3 || header.snapshot_count == 0),
      image_(image),
      file_(image->node().child("file")),
      mapping_(mapping),
      metadata_(header.geometry),
      header_file_(header, file_, std::move(report)),
      refcounts_(header, file_, &header_file_, &metadata_),
      allocator_(header.geometry, file_, &refcounts_, &metadata_, &header_file_,
                 image->node().options().unmap),
      writeback_(header.geometry, {file_, mapping, &refcounts_, &allocator_,
                                   &metadata_, &header_file_}),
      disk_size_(header.size_bytes),
      copies_(
          std::max<int64_t>(2, kCopyBytes / header.geometry.cluster_size())) {
  metadata_.Add(MetadataKind::kHeader, HostOffset(0), 1);
  metadata_.Add(MetadataKind::kL1Table, header.l1_table, header.l1_entries * 8);
  metadata_.Add(MetadataKind::kRefcountTable,
                HostOffset(static_cast<int64_t>(header.refcount_table_offset)),
                header.refcount_table_clusters * geometry_.cluster_size());
  if (header.snapshot_count > 0) {
    metadata_.Add(MetadataKind::kSnapshotTable,
                  HostOffset(static_cast<int64_t>(header.snapshots_offset &
                                                  kEntryOffsetMask)),
                  1);
  }
}

// All of the snapshot table and the L1 tables of the snapshots. What is damaged
// or lies outside the file protects nothing; bgfs check tells of it.
Task<IoStatus> Writer::AddSnapshots(const Header& header) {
  const absl::StatusOr<SnapshotTable> table =
      co_await ReadSnapshotTable(*file_, header);
  if (absl::IsInvalidArgument(table.status())) co_return IoStatus();
  if (!table.ok()) co_return IoError(EIO);
  if (table->entries.empty()) co_return IoStatus();
  metadata_.Add(MetadataKind::kSnapshotTable,
                HostOffset(static_cast<int64_t>(header.snapshots_offset)),
                table->bytes);
  int64_t left = kMaxSnapshotL1Bytes;
  for (const SnapshotEntry& snapshot : table->entries) {
    const int64_t bytes = int64_t{snapshot.l1_entries} * 8;
    const auto size = static_cast<uint64_t>(file_->size());
    if (snapshot.l1_table >= size || bytes > left) continue;
    left -= bytes;
    metadata_.Add(MetadataKind::kSnapshotTable,
                  HostOffset(static_cast<int64_t>(snapshot.l1_table)), bytes);
  }
  co_return IoStatus();
}

// What a process that died before left in the page cache has to be durable
// before anything is decided from it.
Task<IoStatus> Writer::Open(const Header& header) {
  BGFS_CO_TRY(co_await file_->Flush());
  BGFS_CO_TRY(co_await refcounts_.Load());
  BGFS_CO_TRY(co_await AddSnapshots(header));
  for (L1Index i; i.value() < mapping_->l1_entries(); i += 1) {
    const L1Entry table = mapping_->Table(i);
    if (table.allocated() && table.fault == nullptr) {
      metadata_.Add(MetadataKind::kL2Table, table.l2_table, 1);
    }
  }
  co_return IoStatus();
}

Task<IoStatus> Writer::Begin() {
  if (!header_file_.sound()) co_return IoError(EIO);
  BGFS_CO_TRY(co_await header_file_.PrepareToWrite());
  begun_ = true;
  co_return IoStatus();
}

// --- Write -------------------------------------------------------------------

Task<IoStatus> Writer::Write(Request& request, GuestOffset start, IoView data) {
  if (!begun()) BGFS_CO_TRY(co_await Begin());
  const int64_t end = start.value() + data.size();
  if (end > disk_size_) BGFS_CO_TRY(co_await GrowTo(request, end));
  IoResult<Extent> extent =
      co_await mapping_->Lookup(request, start, data.size());
  if (!extent.ok()) co_return extent.status();
  if (extent->bytes == data.size() && extent->in_place()) {
    co_return co_await WriteInPlace(request, *extent, data);
  }
  Pieces pieces(kExtentsAtOnce);
  IoStatus status;
  for (int64_t done = 0; !pieces.failed();) {
    const IoView part = data.Slice(done, extent->bytes);
    if (extent->in_place()) {
      co_await pieces.Add(WriteInPlace(request, *extent, part));
      done += part.size();
    } else {
      const IoResult<int64_t> filled = co_await Fill(request, *extent, part);
      status = filled.status();
      if (!status.ok()) break;
      done += *filled;
    }
    if (done == data.size()) break;
    extent =
        co_await mapping_->Lookup(request, start + done, data.size() - done);
    status = extent.status();
    if (!status.ok()) break;
  }
  const IoStatus joined = co_await pieces.Join();
  co_return status.ok() ? joined : status;
}

Task<IoStatus> Writer::WriteInPlace(Request& request, Extent extent,
                                    IoView data) {
  const MetadataKind kind =
      metadata_.Overlap(extent.host, data.size(), MetadataKind::kData);
  if (kind != MetadataKind::kData) {
    return header_file_.MarkCorrupt(absl::StrCat(
        "guest offset ", extent.start.value(), " lies over ", NameOf(kind)));
  }
  return file_->Write(&request, extent.host.value(), data);
}

bool Writer::ReadsAsZeros(const Extent& extent) const {
  switch (extent.kind) {
    case ClusterKind::kZero:
    case ClusterKind::kZeroAllocated:
      return true;
    case ClusterKind::kUnallocated:
      return backing() == nullptr || backing()->size() <= extent.start.value();
    default:
      return false;
  }
}

Task<IoStatus> Writer::ReadGuest(Request& request, GuestOffset start,
                                 IoView data) {
  const int64_t inside =
      std::clamp<int64_t>(disk_size_ - start.value(), 0, data.size());
  data.Slice(inside, data.size() - inside).Zero();
  if (inside == 0) co_return IoStatus();
  co_return co_await image_->Read(request, start.value(),
                                  data.Slice(0, inside));
}

Task<IoResult<int64_t>> Writer::Fill(Request& request, Extent extent,
                                     IoView data) {
  const int64_t head = geometry_.InCluster(extent.start);
  const bool reserved =
      extent.kind == ClusterKind::kZeroAllocated && extent.copied;
  Allocator::Space space;
  space.run.clusters = geometry_.ClustersFor(head + data.size());
  space.run.first = geometry_.ClusterOf(extent.host);
  if (!reserved) {
    const IoResult<Allocator::Space> allocated =
        co_await Allocate(space.run.clusters);
    if (!allocated.ok()) co_return allocated.status();
    space = *allocated;
  }
  const int64_t clusters = space.run.clusters;
  const int64_t bytes =
      std::min(data.size(), clusters * geometry_.cluster_size() - head);
  IoStatus status =
      co_await FillClusters(request, extent, space, data.Slice(0, bytes));
  int64_t done = 0;
  if (status.ok()) {
    status = co_await Map(request, geometry_.ClusterOf(extent.start), clusters,
                          {ClusterKind::kStandard, space.run}, &done);
  }
  if (status.ok()) co_return bytes;
  if (!reserved && done < clusters) {
    co_await allocator_.Undo({space.run.first + done, clusters - done});
  }
  co_return status;
}

// One write of whole clusters, so that they are never seen half filled.
Task<IoStatus> Writer::FillClusters(Request& request, Extent extent,
                                    Allocator::Space space, IoView data) {
  const HostOffset host = geometry_.StartOf(space.run.first);
  const int64_t cluster_size = geometry_.cluster_size();
  const int64_t head = geometry_.InCluster(extent.start);
  const int64_t tail =
      AlignUp(head + data.size(), cluster_size) - head - data.size();
  const MetadataKind kind = metadata_.Overlap(
      host, space.run.clusters * cluster_size, MetadataKind::kData);
  if (kind != MetadataKind::kData) {
    co_return co_await header_file_.MarkCorrupt(absl::StrCat(
        "a cluster reserved at ", host.value(), " lies over ", NameOf(kind)));
  }
  // Of the clusters as a whole: a layer below may end inside the first.
  const bool zeros = ReadsAsZeros(After(extent, -head));
  if (head + tail == 0 || (zeros && space.zero)) {
    co_return co_await file_->Write(&request, (host + head).value(), data);
  }
  const Slots::Guard slot = co_await copies_.Take();
  AlignedBuffer around = AlignedBuffer::Allocate(head + tail);
  if (!around) co_return IoError(ENOMEM);
  const GuestOffset cluster = extent.start + -head;
  const GuestOffset end = extent.start + data.size();
  if (zeros) {
    around.view().Zero();
  } else {
    if (head > 0) {
      BGFS_CO_TRY(co_await ReadGuest(request, cluster, around.view(0, head)));
    }
    if (tail > 0) {
      BGFS_CO_TRY(co_await ReadGuest(request, end, around.view(head, tail)));
    }
  }
  IovecList pieces;
  if (head > 0) around.view(0, head).AppendTo(&pieces);
  data.AppendTo(&pieces);
  if (tail > 0) around.view(head, tail).AppendTo(&pieces);
  co_return co_await file_->Write(&request, host.value(), IoView(pieces));
}

Task<IoStatus> Writer::WriteZeros(Request& request, Extent extent) {
  AlignedBuffer zeros =
      AlignedBuffer::Allocate(std::min(kZerosBytes, extent.bytes));
  if (!zeros) co_return IoError(ENOMEM);
  zeros.view().Zero();
  while (extent.bytes > 0) {
    const IoResult<int64_t> filled = co_await Fill(
        request, extent, zeros.view(0, std::min(zeros.size(), extent.bytes)));
    if (!filled.ok()) co_return filled.status();
    extent = After(extent, *filled);
  }
  co_return IoStatus();
}

// --- Zero and discard --------------------------------------------------------

Task<IoStatus> Writer::Zero(Request& request, GuestOffset start, int64_t bytes,
                            RequestFlags flags) {
  if (!begun()) BGFS_CO_TRY(co_await Begin());
  const int64_t cluster_size = geometry_.cluster_size();
  const int64_t end = start.value() + bytes;
  const int64_t first = AlignUp(start.value(), cluster_size);
  // The last cluster may end with the disk.
  const int64_t last = end == disk_size_ ? end : AlignDown(end, cluster_size);
  if (first >= last) co_return co_await ZeroPart(request, start, bytes, flags);
  if (first > start.value()) {
    BGFS_CO_TRY(
        co_await ZeroPart(request, start, first - start.value(), flags));
  }
  BGFS_CO_TRY(
      co_await ZeroClusters(request, GuestOffset(first), last - first, flags));
  if (end == last) co_return IoStatus();
  co_return co_await ZeroPart(request, GuestOffset(last), end - last, flags);
}

// Parts of clusters keep their mapping, or get one.
Task<IoStatus> Writer::ZeroPart(Request& request, GuestOffset start,
                                int64_t bytes, RequestFlags flags) {
  for (int64_t done = 0; done < bytes;) {
    const IoResult<Extent> extent =
        co_await mapping_->Lookup(request, start + done, bytes - done);
    if (!extent.ok()) co_return extent.status();
    if (extent->in_place()) {
      BGFS_CO_TRY(co_await file_->Zero(&request, extent->host.value(),
                                       extent->bytes, flags & kMayUnmap));
    } else if (!ReadsAsZeros(*extent)) {
      BGFS_CO_TRY(co_await WriteZeros(request, *extent));
    }
    done += extent->bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> Writer::ZeroClusters(Request& request, GuestOffset start,
                                    int64_t bytes, RequestFlags flags) {
  for (int64_t done = 0; done < bytes;) {
    const IoResult<Extent> extent =
        co_await mapping_->Lookup(request, start + done, bytes - done);
    if (!extent.ok()) co_return extent.status();
    BGFS_CO_TRY(co_await ZeroExtent(request, *extent, flags));
    done += extent->bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> Writer::ZeroExtent(Request& request, Extent extent,
                                  RequestFlags flags) {
  const bool unmap = (flags & kMayUnmap) != 0;
  const bool has_place = extent.kind == ClusterKind::kZeroAllocated;
  if (ReadsAsZeros(extent) && !(unmap && has_place)) co_return IoStatus();
  if (zero_flag_) {
    Change change{ClusterKind::kZero};
    change.keep_host = !unmap;
    co_return co_await MapAll(request, extent.start, extent.bytes, change);
  }
  // Version 2 has no mark for zeros: nothing at all reads as zeros only where
  // nothing is below.
  if (unmap && backing() == nullptr) {
    co_return co_await MapAll(request, extent.start, extent.bytes, Change{});
  }
  if (extent.in_place()) {
    co_return co_await file_->Zero(&request, extent.host.value(), extent.bytes,
                                   flags & kMayUnmap);
  }
  co_return co_await WriteZeros(request, extent);
}

Task<IoStatus> Writer::Discard(Request& request, GuestOffset start,
                               int64_t bytes) {
  const int64_t cluster_size = geometry_.cluster_size();
  const int64_t end = start.value() + bytes;
  const int64_t first = AlignUp(start.value(), cluster_size);
  const int64_t last = end == disk_size_ ? end : AlignDown(end, cluster_size);
  // What lies below must not come to light again.
  const bool hides = backing() != nullptr;
  if (first >= last || (hides && !zero_flag_)) co_return IoStatus();
  if (!begun()) BGFS_CO_TRY(co_await Begin());
  const Change change{hides ? ClusterKind::kZero : ClusterKind::kUnallocated};
  for (GuestOffset at(first); at.value() < last;) {
    const IoResult<Extent> extent =
        co_await mapping_->Lookup(request, at, last - at.value());
    if (!extent.ok()) co_return extent.status();
    if (extent->kind != ClusterKind::kUnallocated &&
        extent->kind != ClusterKind::kZero) {
      BGFS_CO_TRY(co_await MapAll(request, at, extent->bytes, change));
    }
    at += extent->bytes;
  }
  co_return IoStatus();
}

// --- Reserve -----------------------------------------------------------------

Task<IoStatus> Writer::Reserve(Request& request, GuestOffset start,
                               int64_t bytes) {
  if (!begun()) BGFS_CO_TRY(co_await Begin());
  const int64_t cluster_size = geometry_.cluster_size();
  const int64_t end = AlignUp(start.value() + bytes, cluster_size);
  GuestOffset at(AlignDown(start.value(), cluster_size));
  while (at.value() < end) {
    IoResult<Extent> extent =
        co_await mapping_->Lookup(request, at, end - at.value());
    if (!extent.ok()) co_return extent.status();
    // What a layer below decides is looked at cluster by cluster.
    if (extent->kind == ClusterKind::kUnallocated && backing() != nullptr) {
      extent->bytes = std::min(extent->bytes, cluster_size);
    }
    BGFS_CO_TRY(co_await ReserveExtent(request, *extent));
    at += extent->bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> Writer::ReserveExtent(Request& request, Extent extent) {
  const bool has_place = extent.kind == ClusterKind::kStandard ||
                         extent.kind == ClusterKind::kZeroAllocated;
  if (has_place && extent.copied) {
    co_return co_await file_->Reserve(&request, extent.host.value(),
                                      extent.bytes);
  }
  bool zeros = ReadsAsZeros(extent);
  if (!zeros && extent.kind == ClusterKind::kUnallocated) {
    const IoResult<bool> below =
        co_await BackingIsZero(request, extent.start, extent.bytes);
    if (!below.ok()) co_return below.status();
    zeros = *below;
  }
  if (zeros && zero_flag_) co_return co_await ReserveSpace(request, extent);
  co_return co_await CopyUp(request, extent);
}

Task<IoStatus> Writer::ReserveSpace(Request& request, Extent extent) {
  const GuestCluster first = geometry_.ClusterOf(extent.start);
  const int64_t clusters = geometry_.ClustersFor(extent.bytes);
  for (int64_t done = 0; done < clusters;) {
    const IoResult<Allocator::Space> space = co_await Allocate(clusters - done);
    if (!space.ok()) co_return space.status();
    const HostRun run = space->run;
    IoStatus status =
        co_await file_->Reserve(&request, geometry_.StartOf(run.first).value(),
                                run.clusters * geometry_.cluster_size());
    int64_t mapped = 0;
    if (status.ok()) {
      status = co_await Map(request, first + done, run.clusters,
                            {ClusterKind::kZeroAllocated, run}, &mapped);
    }
    if (!status.ok()) {
      co_await allocator_.Undo({run.first + mapped, run.clusters - mapped});
      co_return status;
    }
    done += run.clusters;
  }
  co_return IoStatus();
}

// Rewrites whole clusters with what they hold.
Task<IoStatus> Writer::CopyUp(Request& request, Extent extent) {
  const int64_t piece =
      std::max(AlignDown(kZerosBytes, geometry_.cluster_size()),
               geometry_.cluster_size());
  AlignedBuffer data = AlignedBuffer::Allocate(std::min(piece, extent.bytes));
  if (!data) co_return IoError(ENOMEM);
  while (extent.bytes > 0) {
    const IoView part = data.view(0, std::min(data.size(), extent.bytes));
    BGFS_CO_TRY(co_await ReadGuest(request, extent.start, part));
    const IoResult<int64_t> filled = co_await Fill(request, extent, part);
    if (!filled.ok()) co_return filled.status();
    extent = After(extent, *filled);
  }
  co_return IoStatus();
}

Task<IoResult<bool>> Writer::BackingIsZero(Request& request, GuestOffset start,
                                           int64_t bytes) {
  const int64_t end = std::min(start.value() + bytes, backing()->size());
  for (int64_t at = start.value(); at < end;) {
    const IoResult<BlockStatus> status =
        co_await StatusOfChain(*backing(), &request, at, end - at);
    if (!status.ok()) co_return status.status();
    if ((status->flags & BlockStatus::kZero) == 0) co_return false;
    at += status->bytes;
  }
  co_return true;
}

// --- The change window -------------------------------------------------------

Task<IoResult<Range>> Writer::ChangeWindow(const Request& request) {
  const int64_t cluster_size = geometry_.cluster_size();
  const Range& range = request.range();
  if (request.kind() == RequestKind::kTruncate || range.end() > disk_size_) {
    co_return Range::FromTo(
        AlignDown(std::min(range.offset, disk_size_), cluster_size),
        Range::kToInfinity);
  }
  const int64_t first = AlignUp(range.offset, cluster_size);
  const int64_t last = range.end() == disk_size_
                           ? range.end()
                           : AlignDown(range.end(), cluster_size);
  if (request.kind() == RequestKind::kDiscard) {
    co_return Range::FromTo(first, AlignUp(last, cluster_size));
  }
  if (request.is_zero() && first < last) {
    co_return range.AlignedTo(cluster_size);
  }
  co_return co_await WindowOfWrite(request);
}

// From the first to the last cluster that has to be filled.
Task<IoResult<Range>> Writer::WindowOfWrite(const Request& request) {
  const Range& range = request.range();
  Range window;
  for (int64_t at = range.offset; at < range.end();) {
    const IoResult<Extent> extent = co_await mapping_->Lookup(
        const_cast<Request&>(request), GuestOffset(at), range.end() - at);
    if (!extent.ok()) co_return extent.status();
    const Range part = {at, extent->bytes};
    if (!extent->in_place()) {
      window = window.Union(part.AlignedTo(geometry_.cluster_size()));
    }
    at += extent->bytes;
  }
  co_return window;
}

// --- Flush -------------------------------------------------------------------

Task<IoStatus> Writer::FlushToOs() {
  if (writeback_.needed()) BGFS_CO_TRY(co_await writeback_.Commit());
  writeback_.FlushFollows();
  co_return IoStatus();
}

Task<void> Writer::AfterFlush() { return writeback_.AfterFlush(); }

Task<IoStatus> Writer::Settle() {
  if (!begun_) co_return IoStatus();
  BGFS_CO_TRY(co_await writeback_.Finish());
  co_await allocator_.TrimFile();
  co_return IoStatus();
}

}  // namespace bgfs::qcow2
