#include "drivers/qcow2/qcow2.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/check.h"
#include "drivers/qcow2/slots.h"
#include "graph/async/buffer.h"
#include "graph/async/check.h"

namespace bgfs::qcow2 {
namespace {

// Of one request's extents, so many are read at the same time.
constexpr int64_t kExtentsAtOnce = 16;
// A status covers at most so many extents: compressed clusters are found one by
// one, and others wait for the loop.
constexpr int kExtentsPerStatus = 4096;

absl::Span<const uint8_t> BytesOf(const AlignedBuffer& buffer) {
  return {reinterpret_cast<const uint8_t*>(buffer.data()),
          static_cast<size_t>(buffer.size())};
}

// The first `bytes` of the file, or fewer if it is shorter.
Task<IoResult<AlignedBuffer>> ReadStart(Child& file, int64_t bytes) {
  bytes = std::min(bytes, file.size());
  if (bytes <= 0) co_return AlignedBuffer();
  AlignedBuffer buffer = AlignedBuffer::Allocate(bytes);
  if (!buffer) co_return IoError(ENOMEM);
  BGFS_CO_TRY(co_await file.Read(nullptr, 0, buffer.view()));
  co_return std::move(buffer);
}

}  // namespace

Task<absl::StatusOr<Header>> ReadHeader(Child& file) {
  IoResult<AlignedBuffer> start =
      co_await ReadStart(file, kVersion2HeaderBytes);
  if (!start.ok()) co_return start.status().ToStatus("reading the header");
  const absl::StatusOr<int64_t> wanted = FirstClusterBytes(BytesOf(*start));
  if (!wanted.ok()) co_return wanted.status();
  start = co_await ReadStart(file, *wanted);
  if (!start.ok()) co_return start.status().ToStatus("reading the header");
  co_return ParseHeader(BytesOf(*start), file.size());
}

Qcow2::Qcow2(absl::optional<Header> header, Options options)
    : has_header_(header.has_value()), options_(std::move(options)) {
  if (has_header_) header_ = *std::move(header);
}

Task<absl::Status> Qcow2::Open() {
  const bool writable = !node().read_only();
  file_ = node().child("file");
  BGFS_CHECK(file_ != nullptr);
  if (!has_header_) {
    absl::StatusOr<Header> header = co_await ReadHeader(*file_);
    if (!header.ok()) co_return header.status();
    header_ = *std::move(header);
  }
  if (writable) {
    absl::Status ready = co_await PrepareToWrite();
    if (!ready.ok()) co_return ready;
  }
  mapping_ =
      std::make_unique<Mapping>(header_, file_, options_.l2_cache_bytes,
                                writable, [this](absl::string_view line) {
                                  if (options_.report) options_.report(line);
                                });
  cluster_cache_ = std::make_unique<ClusterCache>(
      file_, mapping_.get(), header_.geometry, header_.compression);
  chain_map_ = std::make_unique<ChainMap>(&node());
  idle_ = std::make_unique<IdleTimer>(options_.idle_ns, [this] { OnIdle(); });
  discarded_ = std::make_unique<IdleTimer>(options_.release_ns, [this] {
    if (writer_->changed()) {
      Spawn(CommitWhenIdle(node().in_flight().Hold()));
    }
  });
  const IoStatus loaded = co_await mapping_->Load();
  if (!loaded.ok()) co_return loaded.ToStatus("reading the L1 table");
  if (writable) {
    absl::Status opened = co_await OpenForWriting();
    if (!opened.ok()) co_return opened;
  }
  node().SetSize(header_.size_bytes);
  node().RefreshLimits();
  co_return absl::OkStatus();
}

Task<absl::Status> Qcow2::PrepareToWrite() {
  absl::Status fit = CheckWritable(header_, file_->size());
  if (fit.ok() && header_.dirty()) fit = co_await RepairDirty();
  co_return fit;
}

// "Header", incompatible_features bit 0: the refcounts may be wrong, and are
// made anew before anything relies on them.
Task<absl::Status> Qcow2::RepairDirty() {
  const absl::StatusOr<CheckReport> report =
      co_await CheckImage(*file_, Repair::kAll);
  if (!report.ok()) {
    co_return absl::Status(
        report.status().code(),
        absl::StrCat("the image was not closed cleanly, and repairing it "
                     "failed: ",
                     report.status().message()));
  }
  if (report->corruptions() > 0) {
    co_return absl::FailedPreconditionError(
        "the image was not closed cleanly, and cannot be repaired; open it "
        "read-only, and see bgfs check");
  }
  if (options_.report) {
    options_.report(absl::StrCat("the image was not closed cleanly: repaired ",
                                 report->corruptions_fixed,
                                 " wrong references and ", report->leaks_fixed,
                                 " leaked clusters"));
  }
  absl::StatusOr<Header> header = co_await ReadHeader(*file_);
  if (!header.ok()) co_return header.status();
  header_ = *std::move(header);
  co_return absl::OkStatus();
}

Task<absl::Status> Qcow2::OpenForWriting() {
  writer_ = std::make_unique<Writer>(header_, this, mapping_.get(),
                                     [this](absl::string_view line) {
                                       if (options_.report)
                                         options_.report(line);
                                     });
  mapping_->SetOnBrokenEntry(
      [this] { Spawn(MarkCorrupt(node().in_flight().Hold())); });
  const IoStatus opened = co_await writer_->Open(header_);
  co_return opened.ToStatus("reading the refcount table");
}

Task<void> Qcow2::MarkCorrupt(InFlight::Holder) {
  (co_await writer_->MarkCorrupt("an entry of its tables breaks the format"))
      .Ignore();
}

// An image that nobody uses has nothing in memory.
void Qcow2::OnIdle() {
  if (writer_ != nullptr && writer_->changed()) {
    Spawn(CommitWhenIdle(node().in_flight().Hold()));
    return;
  }
  mapping_->l2_cache().Clear();
  cluster_cache_->Clear();
  chain_map_->Forget();
}

Task<void> Qcow2::CommitWhenIdle(InFlight::Holder) {
  (co_await writer_->Commit()).Ignore();  // the guest's flush will tell
  idle_->Touch();
}

// --- Read --------------------------------------------------------------------

Task<IoStatus> Qcow2::Read(Request& request, int64_t offset, IoView data) {
  idle_->Touch();
  const IoResult<Extent> first =
      co_await mapping_->Lookup(request, GuestOffset(offset), data.size());
  if (!first.ok()) co_return first.status();
  if (first->bytes == data.size()) {
    co_return co_await ReadExtent(request, *first, data);
  }
  co_return co_await ReadExtents(request, *first, data);
}

// Reads them side by side, each as soon as it has been found.
Task<IoStatus> Qcow2::ReadExtents(Request& request, Extent first, IoView data) {
  Pieces pieces(kExtentsAtOnce);
  IoResult<Extent> extent = first;
  int64_t done = 0;
  while (!pieces.failed()) {
    const int64_t bytes = extent->bytes;
    co_await pieces.Add(ReadExtent(request, *extent, data.Slice(done, bytes)));
    done += bytes;
    if (done == data.size()) break;
    extent = co_await mapping_->Lookup(request, extent->start + bytes,
                                       data.size() - done);
    if (!extent.ok()) break;
  }
  BGFS_CO_TRY(co_await pieces.Join());
  co_return extent.status();
}

Task<IoStatus> Qcow2::ReadExtent(Request& request, Extent extent, IoView data) {
  switch (extent.kind) {
    case ClusterKind::kUnallocated:
      if (Child* backing = node().backing(); backing != nullptr) {
        co_return co_await ReadBelow(*backing, request, extent.start.value(),
                                     data);
      }
      data.Zero();
      co_return IoStatus();
    case ClusterKind::kStandard:
      co_return co_await file_->Read(&request, extent.host.value(), data);
    case ClusterKind::kCompressed:
      co_return co_await cluster_cache_->Read(request, extent, data);
    default:
      data.Zero();
      co_return IoStatus();
  }
}

Task<IoStatus> Qcow2::ReadBelow(Child& backing, Request& request,
                                int64_t offset, IoView data) {
  const ChainMap::Use use(chain_map_.get());
  if (!use.works()) {
    co_return co_await backing.Read(&request, offset, data);
  }
  ChainMap::Piece piece = chain_map_->Find(offset, data.size());
  if (piece.bytes == data.size()) {
    co_return co_await chain_map_->Read(request, piece.layer, offset, data);
  }
  Pieces pieces(kExtentsAtOnce);
  IoStatus resolved;
  for (int64_t done = 0; done < data.size() && !pieces.failed();) {
    const int64_t at = offset + done;
    piece = chain_map_->Find(at, data.size() - done);
    if (piece.bytes == 0) {
      const IoResult<ChainMap::Piece> walked =
          co_await chain_map_->Resolve(request, at, data.size() - done);
      resolved = walked.status();
      if (!resolved.ok()) break;
      piece = *walked;
    }
    co_await pieces.Add(chain_map_->Read(request, piece.layer, at,
                                         data.Slice(done, piece.bytes)));
    done += piece.bytes;
  }
  BGFS_CO_TRY(co_await pieces.Join());
  co_return resolved;
}

// --- Write -------------------------------------------------------------------

Task<IoStatus> Qcow2::Write(Request& request, int64_t offset, IoView data) {
  idle_->Touch();
  return writer_->Write(request, GuestOffset(offset), data);
}

Task<IoStatus> Qcow2::Zero(Request& request, int64_t offset, int64_t bytes,
                           RequestFlags flags) {
  idle_->Touch();
  if ((flags & kMayUnmap) != 0) discarded_->Touch();
  return writer_->Zero(request, GuestOffset(offset), bytes, flags);
}

Task<IoStatus> Qcow2::Discard(Request& request, int64_t offset, int64_t bytes) {
  idle_->Touch();
  discarded_->Touch();
  return writer_->Discard(request, GuestOffset(offset), bytes);
}

Task<IoStatus> Qcow2::Reserve(Request& request, int64_t offset, int64_t bytes) {
  idle_->Touch();
  return writer_->Reserve(request, GuestOffset(offset), bytes);
}

Task<IoStatus> Qcow2::Truncate(Request& request, int64_t size_bytes,
                               Preallocation preallocation) {
  idle_->Touch();
  return writer_->Truncate(request, size_bytes, preallocation);
}

Task<IoResult<Range>> Qcow2::ChangeWindow(const Request& request) {
  if (writer_ == nullptr) return Driver::ChangeWindow(request);
  return writer_->ChangeWindow(request);
}

Task<IoStatus> Qcow2::FlushToOs() {
  if (writer_ == nullptr) return Driver::FlushToOs();
  return writer_->FlushToOs();
}

Task<void> Qcow2::AfterFlush() {
  if (writer_ == nullptr) return Driver::AfterFlush();
  return writer_->AfterFlush();
}

// --- Status, limits, the end -------------------------------------------------

BlockStatus Qcow2::StatusOf(const Extent& extent) const {
  BlockStatus status;
  status.bytes = extent.bytes;
  switch (extent.kind) {
    case ClusterKind::kUnallocated:
      status.flags = node().backing() == nullptr ? BlockStatus::kZero : 0;
      break;
    case ClusterKind::kStandard:
      status.flags =
          BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw;
      status.file = &file_->node();
      status.file_offset = extent.host.value();
      break;
    case ClusterKind::kCompressed:
      status.flags = BlockStatus::kData | BlockStatus::kAllocated;
      break;
    default:
      status.flags = BlockStatus::kZero | BlockStatus::kAllocated;
      break;
  }
  return status;
}

// Data clusters may be holes of the file (a preallocated image).
Task<IoResult<BlockStatus>> Qcow2::Refine(Request& request,
                                          BlockStatus status) {
  const IoResult<BlockStatus> below = co_await file_->Status(
      &request, status.file_offset, status.bytes, /*precise=*/true);
  if (!below.ok()) co_return below;
  status.bytes = std::min(status.bytes, below->bytes);
  if ((below->flags & BlockStatus::kZero) != 0) {
    status.flags &= ~BlockStatus::kData;
    status.flags |= BlockStatus::kZero;
  }
  co_return status;
}

Task<IoResult<BlockStatus>> Qcow2::Status(Request& request, int64_t offset,
                                          int64_t bytes, bool precise) {
  idle_->Touch();
  IoResult<Extent> extent =
      co_await mapping_->Lookup(request, GuestOffset(offset), bytes);
  if (!extent.ok()) co_return extent.status();
  BlockStatus status = StatusOf(*extent);
  for (int i = 1; i < kExtentsPerStatus && status.bytes < bytes; ++i) {
    extent = co_await mapping_->Lookup(
        request, GuestOffset(offset + status.bytes), bytes - status.bytes);
    if (!extent.ok()) break;
    const BlockStatus next = StatusOf(*extent);
    if (next.flags != status.flags ||
        (next.file != nullptr &&
         next.file_offset != status.file_offset + status.bytes)) {
      break;
    }
    status.bytes += next.bytes;
  }
  if (precise && (status.flags & BlockStatus::kRaw) != 0) {
    co_return co_await Refine(request, status);
  }
  co_return status;
}

Task<IoResult<int64_t>> Qcow2::AllocatedBytes() {
  return file_->node().driver().AllocatedBytes();
}

void Qcow2::AddStatistics(DriverStatistics* statistics) const {
  if (mapping_ == nullptr) return;  // not open yet
  statistics->caches.push_back(l2_cache().statistics());
  statistics->caches.push_back(cluster_cache_->statistics());
  if (writer_ != nullptr) {
    statistics->caches.push_back(writer_->refcount_statistics());
  }
}

void Qcow2::RefreshLimits(Limits* limits) {
  const int64_t cluster_size = header_.geometry.cluster_size();
  limits->opt_transfer = cluster_size;
  limits->pdiscard_alignment = cluster_size;
  limits->pwrite_zeroes_alignment = cluster_size;
  limits->copy_alignment = cluster_size;
}

Task<IoStatus> Qcow2::Inactivate() {
  if (writer_ == nullptr) return Driver::Inactivate();
  return writer_->Settle();
}

Task<void> Qcow2::Close() {
  if (idle_ != nullptr) co_await idle_->Stop();
  if (discarded_ != nullptr) co_await discarded_->Stop();
  if (writer_ != nullptr) (co_await writer_->Settle()).Ignore();
  idle_.reset();
  discarded_.reset();
  writer_.reset();
  chain_map_.reset();
  cluster_cache_.reset();
  mapping_.reset();
}

}  // namespace bgfs::qcow2
