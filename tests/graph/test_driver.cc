#include "tests/graph/test_driver.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "graph/node.h"
#include "gtest/gtest.h"

namespace bgfs {

// While it lives, nothing that conflicts with the request may come in.
class TestDriver::Active {
 public:
  Active(TestDriver* driver, const Request* request)
      : driver_(driver), request_(request) {
    EXPECT_TRUE(request->running());
    EXPECT_EQ(&request->node(), &driver->node());
    for (const Request* other : driver->active_) {
      const bool conflict = other != request &&
                            (request->serialising() || other->serialising()) &&
                            request->claim().Overlaps(other->claim());
      EXPECT_FALSE(conflict)
          << "[" << request->claim().offset << ", " << request->claim().end()
          << ") runs beside [" << other->claim().offset << ", "
          << other->claim().end() << ")";
    }
    driver->active_.push_back(request);
  }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  ~Active() {
    auto& active = driver_->active_;
    active.erase(std::find(active.begin(), active.end(), request_));
  }

 private:
  TestDriver* driver_;
  const Request* request_;
};

std::ostream& operator<<(std::ostream& out, const TestDriver::Call& call) {
  static constexpr std::array<const char*, TestDriver::kOps> kNames = {
      "read",      "write",       "zero",   "discard", "reserve", "truncate",
      "flush(os)", "flush(disk)", "status", "copy",    "window"};
  return out << kNames[static_cast<size_t>(call.op)] << " [" << call.offset
             << ", +" << call.bytes << ")";
}

void TestDriver::Release(Op op) {
  held_[op] = false;
  queues_[op].WakeAll();
}

void TestDriver::ReleaseOne(Op op) { EXPECT_TRUE(queues_[op].WakeOne()); }

int TestDriver::count(Op op) const {
  return static_cast<int>(
      std::count_if(calls.begin(), calls.end(),
                    [op](const Call& call) { return call.op == op; }));
}

Task<IoStatus> TestDriver::Enter(Call call) {
  if (call.request != nullptr) call.parent = call.request->parent();
  const Op op = call.op;
  if (op == Op::kWindow) {
    ++windows_asked;
  } else {
    calls.push_back(call);
  }
  Failure& failure = failures_[op];
  int error = refused[op] ? ENOTSUP : 0;
  if (failure.skip > 0) {
    --failure.skip;
  } else if (failure.times > 0) {
    --failure.times;
    error = failure.error;
  }
  if (held_[op]) {
    ++waiting_[op];
    co_await queues_[op].Wait();
    --waiting_[op];
  }
  co_return IoStatus::Errno(error);
}

void TestDriver::CheckAligned(Op op, int64_t offset, int64_t bytes) const {
  const int64_t alignment = node().limits().request_alignment;
  EXPECT_EQ(offset % alignment, 0) << Call{op, offset, bytes};
  const bool at_end = op != Op::kRead && offset + bytes >= node().size();
  EXPECT_TRUE(bytes > 0 && (at_end || bytes % alignment == 0))
      << Call{op, offset, bytes};
}

void TestDriver::CheckTransfer(Op op, int64_t offset,
                               const IoView& data) const {
  CheckAligned(op, offset, data.size());
  const Limits& limits = node().limits();
  if (limits.max_transfer > 0) {
    EXPECT_LE(data.size(), limits.max_transfer);
  }
  EXPECT_LE(data.CountPieces(), limits.max_iov);
  const bool partial = data.size() % limits.request_alignment != 0;
  EXPECT_TRUE(partial || data.AlignedTo(limits.min_memory_alignment));
}

Task<IoStatus> TestDriver::Read(Request& request, int64_t offset, IoView data) {
  const Active active(this, &request);
  CheckTransfer(Op::kRead, offset, data);
  BGFS_CO_TRY(
      co_await Enter({Op::kRead, offset, data.size(), 0,
                      data.contiguous() ? data.data() : nullptr, &request}));
  if (forward_to != nullptr) {
    co_return co_await forward_to->Read(&request, offset, data);
  }
  // Past the end there is something that nobody may see.
  std::string out(static_cast<size_t>(data.size()), '\xee');
  const auto from = static_cast<size_t>(offset);
  if (from < bytes_.size()) {
    std::memcpy(out.data(), &bytes_[from],
                std::min(out.size(), bytes_.size() - from));
  }
  data.CopyFrom(out.data());
  co_return IoStatus();
}

Task<IoStatus> TestDriver::Write(Request& request, int64_t offset,
                                 IoView data) {
  const Active active(this, &request);
  CheckTransfer(Op::kWrite, offset, data);
  EXPECT_LE(offset,
            std::max(node().size(), static_cast<int64_t>(bytes_.size())))
      << "the engine leaves no gap";
  const IoStatus status =
      co_await Enter({Op::kWrite, offset, data.size(), request.flags(),
                      data.contiguous() ? data.data() : nullptr, &request});
  if (status.error() == ENOTSUP) co_return status;
  if (forward_to != nullptr) {
    co_return co_await forward_to->Write(&request, offset, data);
  }
  std::string in(static_cast<size_t>(data.size()), 0);
  data.CopyTo(in.data());
  if (!status.ok()) in.resize(in.size() / 2);
  const auto at = static_cast<size_t>(offset);
  bytes_.resize(std::max(bytes_.size(), at + in.size()));
  bytes_.replace(at, in.size(), in);
  co_return status;
}

Task<IoStatus> TestDriver::Zero(Request& request, int64_t offset, int64_t bytes,
                                RequestFlags flags) {
  const Active active(this, &request);
  CheckAligned(Op::kZero, offset, bytes);
  BGFS_CO_TRY(
      co_await Enter({Op::kZero, offset, bytes, flags, nullptr, &request}));
  bytes_.replace(static_cast<size_t>(offset), static_cast<size_t>(bytes),
                 static_cast<size_t>(bytes), 0);
  co_return IoStatus();
}

Task<IoStatus> TestDriver::Discard(Request& request, int64_t offset,
                                   int64_t bytes) {
  const Active active(this, &request);
  co_return co_await Enter({Op::kDiscard, offset, bytes, 0, nullptr, &request});
}

Task<IoStatus> TestDriver::Reserve(Request& request, int64_t offset,
                                   int64_t bytes) {
  const Active active(this, &request);
  co_return co_await Enter({Op::kReserve, offset, bytes, 0, nullptr, &request});
}

Task<IoStatus> TestDriver::Truncate(Request& request, int64_t size_bytes,
                                    Preallocation mode) {
  const Active active(this, &request);
  preallocation = mode;
  const IoStatus status =
      co_await Enter({Op::kTruncate, size_bytes, 0, 0, nullptr, &request});
  if (status.ok() || !truncates_exactly) {
    bytes_.resize(static_cast<size_t>(size_bytes), 0);
  }
  co_return status;
}

Task<IoStatus> TestDriver::FlushToOs() { return Enter({Op::kFlushToOs}); }

Task<IoStatus> TestDriver::FlushToDisk() { return Enter({Op::kFlushToDisk}); }

Task<IoResult<BlockStatus>> TestDriver::Status(Request& request, int64_t offset,
                                               int64_t bytes, bool) {
  const Active active(this, &request);
  CheckAligned(Op::kStatus, offset, bytes);
  const IoStatus entered =
      co_await Enter({Op::kStatus, offset, bytes, 0, nullptr, &request});
  if (!entered.ok()) co_return entered;
  if (block_status) co_return block_status(offset, bytes);
  BlockStatus data;
  data.flags = BlockStatus::kData | BlockStatus::kAllocated;
  data.bytes = bytes;
  co_return data;
}

Task<IoResult<Range>> TestDriver::ChangeWindow(const Request& request) {
  EXPECT_FALSE(request.running());
  const IoStatus entered =
      co_await Enter({Op::kWindow, request.range().offset,
                      request.range().bytes, 0, nullptr, &request});
  if (!entered.ok()) co_return entered;
  co_return window ? window(request) : Range{};
}

Task<IoStatus> TestDriver::CopyRangeFrom(Request& request, int64_t offset,
                                         int64_t bytes, CopyTarget target) {
  const Active active(this, &request);
  if (!copies) co_return IoError(ENOTSUP);
  co_return co_await target.edge->CopyRangeTo(&request, target.offset, bytes,
                                              {this, offset}, target.flags);
}

Task<IoStatus> TestDriver::CopyRangeTo(Request& request, int64_t offset,
                                       int64_t bytes, CopySource source) {
  const Active active(this, &request);
  CheckAligned(Op::kCopy, offset, bytes);
  const auto* from = dynamic_cast<TestDriver*>(source.leaf);
  if (from == nullptr || !copies) co_return IoError(ENOTSUP);
  BGFS_CO_TRY(co_await Enter(
      {Op::kCopy, offset, bytes, request.flags(), nullptr, &request}));
  const auto count = static_cast<size_t>(bytes);
  bytes_.replace(
      static_cast<size_t>(offset), count,
      from->bytes_.substr(static_cast<size_t>(source.offset), count));
  co_return IoStatus();
}

Task<IoResult<int64_t>> TestDriver::AllocatedBytes() {
  co_return static_cast<int64_t>(bytes_.size());
}

void TestDriver::RefreshLimits(Limits* limits) {
  // What is not set comes from the children.
  const Limits merged = *limits;
  *limits = wanted_limits;
  if (limits->max_transfer == 0) limits->max_transfer = merged.max_transfer;
}

PermissionSet TestDriver::ChildPermissions(const Child& child,
                                           const PermissionSet& users) const {
  return Driver::ChildPermissions(child, users);
}

}  // namespace bgfs
