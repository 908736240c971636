#include "tests/graph/cow_driver.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "graph/async/buffer.h"
#include "graph/async/loop.h"
#include "graph/request.h"
#include "gtest/gtest.h"

namespace bgfs {

void CowDriver::OpenWith(int64_t size_bytes) {
  file_ = node().child("file");
  backing_ = node().backing();
  map_.assign(static_cast<size_t>(Clusters(size_bytes)), kUnallocated);
  node().SetSize(size_bytes);
}

int64_t CowDriver::allocated() const {
  return std::count_if(map_.begin(), map_.end(),
                       [](int64_t entry) { return entry >= 0; });
}

Task<void> CowDriver::Sleep() {
  Loop* loop = Loop::Current();
  for (uint64_t turns = loop->Random() % 4; turns > 0; --turns) {
    co_await loop->Yield();
  }
}

int64_t CowDriver::Allocate() {
  if (free_.empty()) return next_host_++;
  const int64_t host = free_.back();
  free_.pop_back();
  return host;
}

void CowDriver::Free(int64_t host) {
  EXPECT_EQ(std::count(free_.begin(), free_.end(), host), 0) << "freed twice";
  EXPECT_EQ(std::count(map_.begin(), map_.end(), host), 0) << "still in use";
  free_.push_back(host);
}

void CowDriver::Map(const Request& request, int64_t guest, int64_t entry) {
  EXPECT_TRUE(request.running() && request.serialising());
  EXPECT_TRUE(request.claim().Contains({guest * cluster_, cluster_}))
      << "cluster " << guest << " changes outside [" << request.claim().offset
      << ", " << request.claim().end() << ")";
  const int64_t before = Entry(guest);
  Entry(guest) = entry;
  if (before >= 0 && before != entry) Free(before);
}

// --- Data ------------------------------------------------------------------

Task<IoStatus> CowDriver::Read(Request& request, int64_t offset, IoView data) {
  for (int64_t done = 0; done < data.size();) {
    const int64_t at = offset + done;
    const int64_t bytes =
        std::min(cluster_ - at % cluster_, data.size() - done);
    BGFS_CO_TRY(co_await ReadCluster(&request, at, data.Slice(done, bytes)));
    done += bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> CowDriver::ReadCluster(Request* request, int64_t offset,
                                      IoView data) {
  const int64_t entry = Entry(offset / cluster_);
  co_await Sleep();
  if (entry >= 0) {
    co_return co_await file_->Read(request,
                                   entry * cluster_ + offset % cluster_, data);
  }
  if (entry == kUnallocated && backing_ != nullptr) {
    co_return co_await backing_->Read(request, offset, data);
  }
  data.Zero();
  co_return IoStatus();
}

Task<IoStatus> CowDriver::Write(Request& request, int64_t offset, IoView data) {
  const int64_t clusters = Clusters(offset + data.size());
  if (clusters > static_cast<int64_t>(map_.size())) {
    map_.resize(static_cast<size_t>(clusters), kUnallocated);
  }
  for (int64_t done = 0; done < data.size();) {
    const int64_t at = offset + done;
    const int64_t bytes =
        std::min(cluster_ - at % cluster_, data.size() - done);
    BGFS_CO_TRY(co_await WriteCluster(&request, at, data.Slice(done, bytes)));
    done += bytes;
  }
  co_return IoStatus();
}

Task<IoStatus> CowDriver::WriteCluster(Request* request, int64_t offset,
                                       IoView data) {
  const int64_t entry = Entry(offset / cluster_);
  co_await Sleep();
  if (entry < 0) co_return co_await CopyOnWrite(request, offset, data);
  co_return co_await file_->Write(request, entry * cluster_ + offset % cluster_,
                                  data);
}

Task<IoStatus> CowDriver::CopyOnWrite(Request* request, int64_t offset,
                                      IoView data) {
  const int64_t guest = offset / cluster_;
  AlignedBuffer copy = AlignedBuffer::Allocate(cluster_);
  std::memset(copy.data(), 0, static_cast<size_t>(cluster_));
  // What lies past the end must read as zeros when the node grows.
  const int64_t inside = std::min(cluster_, node().size() - guest * cluster_);
  if (inside > 0) {
    BGFS_CO_TRY(
        co_await ReadCluster(request, guest * cluster_, copy.view(0, inside)));
  }
  co_await Sleep();
  data.CopyTo(copy.data() + offset % cluster_);
  const int64_t host = Allocate();
  const IoStatus status =
      co_await file_->Write(request, host * cluster_, copy.view());
  co_await Sleep();
  if (status.ok()) {
    Map(*request, guest, host);
  } else {
    Free(host);
  }
  co_return status;
}

// --- Zero, discard, size -----------------------------------------------------

Task<IoStatus> CowDriver::Zero(Request& request, int64_t offset, int64_t bytes,
                               RequestFlags) {
  const int64_t end = offset + bytes;
  const bool whole =
      offset % cluster_ == 0 && (end % cluster_ == 0 || end >= node().size());
  if (!whole) co_return IoError(ENOTSUP);
  for (int64_t guest = offset / cluster_; guest < Clusters(end); ++guest) {
    co_await Sleep();
    if (Entry(guest) != kZeroCluster) Map(request, guest, kZeroCluster);
  }
  co_return IoStatus();
}

Task<IoStatus> CowDriver::Discard(Request& request, int64_t offset,
                                  int64_t bytes) {
  return Zero(request, offset, bytes, 0);
}

Task<IoStatus> CowDriver::ZeroTail(Request* request, int64_t size_bytes) {
  const int64_t in_cluster = size_bytes % cluster_;
  if (in_cluster == 0) co_return IoStatus();
  const int64_t entry = Entry(size_bytes / cluster_);
  if (entry < 0) co_return IoStatus();
  co_return co_await file_->Zero(request, entry * cluster_ + in_cluster,
                                 cluster_ - in_cluster);
}

Task<IoStatus> CowDriver::Truncate(Request& request, int64_t size_bytes,
                                   Preallocation preallocation) {
  if (preallocation != Preallocation::kOff) co_return IoError(ENOTSUP);
  const int64_t kept = std::min(size_bytes, node().size());
  // The old tail, and what a write that failed has left. First, since it may
  // fail: what is unmapped shows the backing layer.
  BGFS_CO_TRY(co_await ZeroTail(&request, kept));
  for (int64_t guest = Clusters(kept);
       guest < static_cast<int64_t>(map_.size()); ++guest) {
    co_await Sleep();
    if (Entry(guest) != kUnallocated) Map(request, guest, kUnallocated);
  }
  map_.resize(static_cast<size_t>(Clusters(size_bytes)), kUnallocated);
  co_return IoStatus();
}

// --- The rest ----------------------------------------------------------------

Task<IoResult<BlockStatus>> CowDriver::Status(Request&, int64_t offset,
                                              int64_t bytes, bool) {
  const int64_t first = Entry(offset / cluster_);
  co_await Sleep();
  BlockStatus status;
  if (first >= 0) status.flags = BlockStatus::kData | BlockStatus::kAllocated;
  if (first == kZeroCluster) {
    status.flags = BlockStatus::kZero | BlockStatus::kAllocated;
  }
  status.bytes = std::min(bytes, cluster_ - offset % cluster_);
  co_return status;
}

Task<IoResult<Range>> CowDriver::ChangeWindow(const Request& request) {
  // What extends the node changes clusters from the old end on.
  Range range = request.range();
  if (range.end() > node().size()) range = range.Union(request.claim());
  const auto mapped = static_cast<int64_t>(map_.size());
  Range window;
  const bool in_place =
      request.kind() == RequestKind::kWrite && !request.is_zero();
  const int64_t last = range.end() == Range::kToInfinity
                           ? std::max(mapped, range.offset / cluster_ + 1)
                           : Clusters(range.end());
  for (int64_t guest = range.offset / cluster_; guest < last; ++guest) {
    const bool changes = guest >= mapped || !in_place || Entry(guest) < 0;
    if (!changes) continue;
    window = window.Union({guest * cluster_, cluster_});
  }
  co_await Sleep();
  co_return window;
}

Task<IoResult<int64_t>> CowDriver::AllocatedBytes() {
  co_return allocated() * cluster_;
}

void CowDriver::RefreshLimits(Limits* limits) {
  limits->pwrite_zeroes_alignment = cluster_;
  limits->pdiscard_alignment = cluster_;
  limits->copy_alignment = cluster_;
}

}  // namespace bgfs
