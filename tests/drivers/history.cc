#include "tests/drivers/history.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "drivers/create.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

constexpr int64_t kSlotBytes = 1000;

// Memory for a request: in odd pieces at odd addresses, or in one at a page.
class Memory {
 public:
  Memory(int64_t bytes, SimRandom* random)
      : data_(static_cast<size_t>(bytes) + 8200, '?') {
    const auto address = reinterpret_cast<uintptr_t>(data_.data());
    int64_t at = 4096 - static_cast<int64_t>(address % 4096);
    if (random->Chance(0.5)) {
      view_ = IoView(data_.data() + at, bytes);
      return;
    }
    at += random->Between(0, 17);
    while (bytes > 0) {
      const int64_t piece = random->Between(1, bytes);
      pieces_.push_back({data_.data() + at, static_cast<size_t>(piece)});
      at += piece;
      bytes -= piece;
    }
    view_ = IoView(pieces_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const IoView& view() const { return view_; }
  std::string Content() const {
    std::string content(static_cast<size_t>(view_.size()), '?');
    view_.CopyTo(content.data());
    return content;
  }

 private:
  std::string data_;
  std::vector<iovec> pieces_;
  IoView view_;
};

}  // namespace

History::History(Graph* graph, Subject subject, std::string content,
                 uint64_t seed)
    : graph_(graph),
      subject_(std::move(subject)),
      random_(seed),
      model_(std::move(content)) {}

void History::Expect(const char* what, Range range, int error) {
  if (error == 0) return;
  failed_ = true;
  ADD_FAILURE() << what << " of " << range.bytes << " bytes at " << range.offset
                << " of " << size() << ": errno " << error;
}

Task<void> History::Run() {
  const OpenContext context;
  auto node = co_await OpenNode(*graph_, subject_.spec, context);
  EXPECT_TRUE(node.ok()) << node.status();
  if (!node.ok()) co_return;
  Permissions used = kConsistentRead | kWrite;
  if (subject_.resizable) used |= kResize;
  auto backend = Backend::Create("history", *node, {used, kAllPermissions});
  EXPECT_TRUE(backend.ok()) << backend.status();
  if (backend.ok()) {
    backend_ = *std::move(backend);
    EXPECT_EQ(backend_->size(), size());
    co_await Compare({0, size()});
    for (int i = 0; i < subject_.rounds && !failed_; ++i) co_await RunRound();
    Expect("flush", {}, (co_await backend_->Flush()).error());
    backend_.reset();
  }
  const absl::Status closed = co_await graph_->Close();
  EXPECT_TRUE(closed.ok()) << closed;
}

Task<void> History::RunRound() {
  InFlight running;
  for (int i = 0; i < subject_.workers; ++i) {
    Spawn(RunWorker(i, running.Hold()));
  }
  if (subject_.resizable && random_.Chance(0.5)) {
    Spawn(RunGrower(running.Hold()));
  }
  co_await running.WaitIdle();
  co_await DoSomething(PickAnywhere());
  if (subject_.resizable) co_await Resize();
  if (failed_) co_return;
  EXPECT_EQ(backend_->size(), size());
  co_await Compare({0, size()});
  co_await CompareStatus();
}

Task<void> History::RunWorker(int worker, InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  for (int i = 0; i < subject_.requests && !failed_; ++i) {
    const Range range = PickInSlot(worker);
    if (range.empty()) co_return;
    co_await DoSomething(range);
    if (!failed_) co_await Compare(range);
  }
}

Task<void> History::RunGrower(InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  for (int i = 0; i < 5 && !failed_; ++i) {
    co_await Write({size() + random_.Below(2) * random_.Below(5000),
                    random_.Between(1, 5000)});
  }
}

// Not the last slot, which a grower may be at.
Range History::PickInSlot(int worker) {
  const int64_t slots = size() / kSlotBytes / subject_.workers;
  if (slots == 0) return {};
  const int64_t slot = random_.Below(slots) * subject_.workers + worker;
  const int64_t from = random_.Below(kSlotBytes);
  return {slot * kSlotBytes + from, random_.Between(1, kSlotBytes - from)};
}

Range History::PickAnywhere() {
  if (size() == 0) return {};
  const int64_t from = random_.Below(size());
  return {from, random_.Between(1, size() - from)};
}

Task<void> History::DoSomething(Range range) {
  if (range.empty()) co_return;
  const int64_t kind = random_.Below(100);
  if (kind < 50) {
    co_await Write(range);
  } else if (kind < 65) {
    co_await Zero(range);
  } else if (kind < 75) {
    co_await Discard(range);
  } else if (kind < 80) {
    co_await Reserve(range);
  } else if (kind < 85) {
    Expect("flush", {}, (co_await backend_->Flush()).error());
  } else {
    co_await Compare(range);
  }
}

Task<void> History::Write(Range range) {
  std::string data(static_cast<size_t>(range.bytes), '\0');
  for (char& byte : data) byte = static_cast<char>(random_.Next());
  Memory memory(range.bytes, &random_);
  memory.view().CopyFrom(data.data());
  Expect("write", range,
         (co_await backend_->Write(range.offset, memory.view())).error());
  if (range.end() > size()) {
    model_.resize(static_cast<size_t>(range.end()), '\0');
  }
  if (subject_.forgets) co_return;
  std::copy(data.begin(), data.end(), model_.begin() + range.offset);
}

Task<void> History::Zero(Range range) {
  const RequestFlags flags = random_.Chance(0.5) ? kMayUnmap : 0;
  Expect("zero", range,
         (co_await backend_->Zero(range.offset, range.bytes, flags)).error());
  std::fill_n(model_.begin() + range.offset, range.bytes, '\0');
}

// Each byte is as it was or zero; the model takes what it is.
Task<void> History::Discard(Range range) {
  Expect("discard", range,
         (co_await backend_->Discard(range.offset, range.bytes)).error());
  Memory memory(range.bytes, &random_);
  Expect("read", range,
         (co_await backend_->Read(range.offset, memory.view())).error());
  const std::string now = memory.Content();
  for (int64_t i = 0; i < range.bytes; ++i) {
    char& old = model_[static_cast<size_t>(range.offset + i)];
    const char seen = now[static_cast<size_t>(i)];
    if (seen != 0 && seen != old) Expect("content after discard", range, EIO);
    old = seen;
  }
}

Task<void> History::Reserve(Range range) {
  const IoStatus status = co_await backend_->Reserve(range.offset, range.bytes);
  if (status.error() != ENOTSUP) Expect("reserve", range, status.error());
}

Task<void> History::Compare(Range range) {
  if (range.empty()) co_return;
  Memory memory(range.bytes, &random_);
  Expect("read", range,
         (co_await backend_->Read(range.offset, memory.view())).error());
  if (failed_) co_return;
  const std::string now = memory.Content();
  const auto wrong =
      std::mismatch(now.begin(), now.end(), model_.begin() + range.offset);
  if (wrong.first == now.end()) co_return;
  failed_ = true;
  ADD_FAILURE() << "byte " << range.offset + (wrong.first - now.begin())
                << " of " << size() << " is " << static_cast<int>(*wrong.first)
                << ", should be " << static_cast<int>(*wrong.second)
                << "; read of " << range.bytes << " at " << range.offset;
}

Task<void> History::Resize() {
  const int64_t new_size = random_.Chance(0.5)
                               ? random_.Between(size() / 2, size())
                               : size() + random_.Below(40000);
  auto how = Preallocation::kOff;
  if (new_size > size() && random_.Chance(0.3)) {
    how = random_.Chance(0.5) ? Preallocation::kFalloc : Preallocation::kFull;
  }
  const IoStatus status =
      co_await backend_->Truncate(new_size, /*exact=*/true, how);
  if (status.error() == ENOTSUP && how != Preallocation::kOff) co_return;
  Expect("resize", {new_size, 0}, status.error());
  model_.resize(static_cast<size_t>(new_size), '\0');
}

Task<void> History::CompareStatus() {
  for (int64_t at = 0; at < size() && !failed_;) {
    const auto status = co_await backend_->Status(at, size() - at);
    Expect("status", {at, size() - at}, status.error());
    if (failed_) co_return;
    EXPECT_GT(status->bytes, 0);
    EXPECT_LE(at + status->bytes, size());
    EXPECT_EQ((status->flags & BlockStatus::kEof) != 0,
              at + status->bytes == size());
    const bool zero = (status->flags & BlockStatus::kZero) != 0;
    EXPECT_NE(zero, (status->flags & BlockStatus::kData) != 0);
    const auto begin = model_.begin() + at;
    if (zero && std::any_of(begin, begin + status->bytes,
                            [](char byte) { return byte != 0; })) {
      Expect("zero status", {at, status->bytes}, EIO);
    }
    at += status->bytes;
  }
}

}  // namespace bgfs
