#include "tests/graph/checked_requests.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/drain.h"

namespace bgfs {
namespace {

constexpr int64_t kCell = CellModel::kCell;

// Memory for a request, at an odd address and in pieces, or all in one.
class Memory {
 public:
  Memory(std::string content, SimRandom* random)
      : content_(std::move(content)) {
    const auto size = static_cast<int64_t>(content_.size());
    view_ = IoView(content_.data(), size);
    if (random->Chance(0.7)) return;
    for (int64_t at = 0; at < size;) {
      const int64_t piece = random->Between(1, size - at);
      pieces_.push_back(
          {&content_[static_cast<size_t>(at)], static_cast<size_t>(piece)});
      at += piece;
    }
    view_ = IoView(pieces_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const IoView& view() const { return view_; }
  const std::string& content() const { return content_; }

 private:
  std::string content_;
  std::vector<iovec> pieces_;
  IoView view_;
};

}  // namespace

class CheckedRequests::ResizeCount {
 public:
  ResizeCount(CheckedRequests* requests, bool counts)
      : requests_(counts ? requests : nullptr) {
    if (requests_ == nullptr) return;
    ++requests_->resizes_;
    ++requests_->resizing_;
  }
  ResizeCount(const ResizeCount&) = delete;
  ResizeCount& operator=(const ResizeCount&) = delete;
  ~ResizeCount() {
    if (requests_ != nullptr) --requests_->resizing_;
  }

 private:
  CheckedRequests* const requests_;
};

void CheckedRequests::Expect(const char* what, IoStatus status, Range range,
                             bool refusable) {
  if (options_.trace != nullptr) {
    options_.trace(
        absl::StrCat("  ends at ", model_.now(), ": ", what, " ", range.offset,
                     " + ", range.bytes, status.ok() ? "" : ", errno ",
                     status.ok() ? "" : absl::StrCat(status.error())));
  }
  if (status.ok() || options_.errors_allowed()) return;
  if (refusable && MayResize(range) && status.error() == EIO) return;
  options_.fail(absl::StrCat("a ", what, " at ", range.offset, " + ",
                             range.bytes, " fails: errno ", status.error()));
}

void CheckedRequests::ExpectRead(int64_t start, int64_t offset,
                                 const std::string& data) {
  if (options_.forgets != nullptr && options_.forgets()) model_.Forget();
  const std::string wrong = model_.CheckRead(start, offset, data);
  if (!wrong.empty()) options_.fail(wrong);
}

Range CheckedRequests::PickRange() {
  const int64_t limit = options_.largest / kCell;
  // Often in a few places, so that requests meet.
  const int64_t first = random_.Chance(0.5)
                            ? random_.Below(limit)
                            : std::min(random_.Below(24) + 64, limit - 1);
  int64_t cells = random_.Between(1, random_.Chance(0.8) ? 12 : 160);
  cells = std::min(cells, limit - first);
  Range range = {first * kCell, cells * kCell};
  if (random_.Chance(0.2)) {  // a whole cluster
    range = {AlignDown(range.offset, options_.cluster), options_.cluster};
  }
  range.bytes = std::min(range.bytes, limit * kCell - range.offset);
  return range;
}

Task<void> CheckedRequests::DoSomething(Backend* backend) {
  ++requests_;
  const Range range = PickRange();
  switch (random_.Below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      co_await Read(backend, range);
      break;
    case 4:
      co_await CheckStatus(backend, range);
      break;
    case 5:
    case 6:
      co_await Zero(backend, range);
      break;
    case 7:
      co_await Discard(backend, range);
      break;
    case 8:
      co_await Reserve(backend, range);
      break;
    case 9:
      if (resizable()) {
        co_await Truncate(backend);
        break;
      }
      [[fallthrough]];
    case 10:
      co_await Flush(backend);
      break;
    default:
      co_await Write(backend, range);
  }
}

Task<void> CheckedRequests::DrainSomething(const Graph* graph, int64_t users) {
  const auto& nodes = graph->nodes();
  Node* node =
      nodes[static_cast<size_t>(random_.Below(std::ssize(nodes)))].get();
  Drain drain({node});
  co_await drain.Begin();
  const int64_t requests = requests_;
  for (int look = 0; look < 3; ++look) {
    for (const Node* drained : drain.nodes()) {
      if (const_cast<Node*>(drained)->in_flight().count() != 0) {
        options_.fail("something is in flight inside a drain");
      }
    }
    co_await Loop::Current()->SleepUntil(Loop::Current()->NowNs() +
                                         random_.Below(1000000));
  }
  // Each user can at most begin the request that is parked.
  if (requests_ > requests + users) {
    options_.fail("a drain lets requests pass");
  }
  drain.End();
}

RequestFlags CheckedRequests::PickFlags() {
  RequestFlags flags = random_.Chance(0.05) ? kSerialise : 0;
  if (!options_.all_flags) return flags;
  if (random_.Chance(0.1)) flags |= kFua;
  if (random_.Chance(0.05)) flags |= kNoWait;
  return flags;
}

IoStatus CheckedRequests::Excused(RequestFlags flags, IoStatus status) {
  const bool asked_for =
      ((flags & kNoWait) != 0 && status.error() == EBUSY) ||
      ((flags & kNoFallback) != 0 && status.error() == ENOTSUP);
  return asked_for ? IoStatus() : status;
}

void CheckedRequests::CheckDirty(const Backend& backend, Range range) {
  const DirtyBitmap* bitmap = backend.node().dirty_bitmaps().Find("history");
  // A truncate may have taken it away since.
  if (bitmap == nullptr || resizable()) return;
  range.offset += options_.base;
  const Range dirty = bitmap->bits().Next(range);
  if (dirty.offset != range.offset || dirty.end() != range.end()) {
    options_.fail(absl::StrCat("the change at ", range.offset, " + ",
                               range.bytes, " is not in the dirty bitmap"));
  }
}

Task<void> CheckedRequests::Read(Backend* backend, Range range) {
  Memory memory(std::string(static_cast<size_t>(range.bytes), '?'), &random_);
  const int64_t start = model_.Now();
  RequestFlags flags = random_.Chance(0.1) ? kSerialise : 0;
  if (options_.all_flags) {
    if (random_.Chance(0.2)) flags |= kCopyOnRead;
    if (random_.Chance(0.05)) flags |= kNoWait;
  }
  const IoStatus status = co_await backend->Read(options_.base + range.offset,
                                                 memory.view(), flags);
  Expect("read", Excused(flags, status), range, /*refusable=*/true);
  if (!status.ok()) co_return;
  ExpectRead(start, range.offset, memory.content());
}

Task<void> CheckedRequests::CheckStatus(Backend* backend, Range range) {
  const int64_t start = model_.Now();
  while (range.bytes > 0) {
    const IoResult<BlockStatus> status =
        co_await backend->Status(options_.base + range.offset, range.bytes);
    Expect("status", status.status(), range, /*refusable=*/true);
    if (!status.ok()) co_return;
    if (status->bytes <= 0 || status->bytes > range.bytes) {
      options_.fail(absl::StrCat("a status of ", status->bytes, " bytes"));
      co_return;
    }
    // Whole cells.
    const Range inside = {AlignUp(range.offset, kCell), 0};
    const int64_t end = AlignDown(range.offset + status->bytes, kCell);
    if ((status->flags & BlockStatus::kData) == 0 && end > inside.offset) {
      ExpectRead(start, inside.offset,
                 std::string(static_cast<size_t>(end - inside.offset), 0));
    }
    range.offset += status->bytes;
    range.bytes -= status->bytes;
  }
}

Task<void> CheckedRequests::Write(Backend* backend, Range range) {
  const ResizeCount counted(this, MayResize(range));
  // Zeros may be detected.
  const bool zeros = options_.all_flags && random_.Chance(0.1);
  CellModel::Change* change = model_.Begin(range, zeros);
  Memory memory(CellModel::Content(change->number, range), &random_);
  const RequestFlags flags = PickFlags();
  const IoStatus status = co_await backend->Write(options_.base + range.offset,
                                                  memory.view(), flags);
  model_.End(change, status.ok(), (flags & kFua) != 0);
  if (status.ok()) CheckDirty(*backend, range);
  Expect("write", Excused(flags, status), range);
}

Task<void> CheckedRequests::Zero(Backend* backend, Range range) {
  const ResizeCount counted(this, MayResize(range));
  CellModel::Change* change = model_.Begin(range, /*zeros=*/true);
  RequestFlags flags = options_.all_flags ? PickFlags() : 0;
  if (random_.Chance(0.5)) flags |= kMayUnmap;
  if (options_.all_flags && random_.Chance(0.1)) flags |= kNoFallback;
  const IoStatus status =
      co_await backend->Zero(options_.base + range.offset, range.bytes, flags);
  model_.End(change, status.ok(), (flags & kFua) != 0);
  if (status.ok()) CheckDirty(*backend, range);
  Expect("zero request", Excused(flags, status), range);
}

Task<void> CheckedRequests::Discard(Backend* backend, Range range) {
  CellModel::Change* change = model_.Begin(range, /*zeros=*/true);
  const IoStatus status =
      co_await backend->Discard(options_.base + range.offset, range.bytes);
  model_.End(change, /*certain=*/false);
  Expect("discard", status, range, /*refusable=*/true);
}

Task<void> CheckedRequests::Reserve(Backend* backend, Range range) {
  const IoStatus status =
      co_await backend->Reserve(options_.base + range.offset, range.bytes);
  if (status.error() != ENOTSUP)
    Expect("reserve", status, range, /*refusable=*/true);
}

Task<void> CheckedRequests::Truncate(Backend* backend) {
  const ResizeCount counted(this, /*counts=*/true);
  const int64_t size = kCell * random_.Between(options_.smallest / kCell,
                                               options_.largest / kCell);
  const bool exact = random_.Chance(0.8);
  CellModel::Change* change =
      model_.Begin(exact ? Range::FromTo(size, options_.largest) : Range{},
                   /*zeros=*/true);
  const IoStatus status =
      co_await backend->Truncate(options_.base + size, exact);
  model_.End(change, status.ok());
  Expect("truncate", status, {size, 0});
}

Task<bool> CheckedRequests::Flush(Backend* backend) {
  const int64_t start = model_.Now();
  const IoStatus status = co_await backend->Flush();
  if (status.ok()) model_.Flushed(start);
  Expect("flush", status, {});
  co_return status.ok();
}

}  // namespace bgfs
