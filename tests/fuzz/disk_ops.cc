#include "tests/fuzz/disk_ops.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

constexpr int kMaxStatuses = 200;

// Bytes that tell one write from the next.
std::string Pattern(uint32_t tag, int64_t bytes) {
  std::string data(static_cast<size_t>(bytes), '\0');
  uint32_t state = tag | 1;
  for (char& c : data) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return data;
}

void CheckLine(absl::string_view line) {
  EXPECT_EQ(line.find('\n'), absl::string_view::npos) << line;
}

}  // namespace

void DiskRun::Run(const std::vector<DiskOp>& operations, bool together) {
  world_->Run(OpenAndRun(&operations, together));
}

Task<void> DiskRun::OpenAndRun(const std::vector<DiskOp>* operations,
                               bool together) {
  Graph graph(&world_->loop());
  OpenContext context;
  // Anything else asks the real file system.
  context.implicit_files = proto::ImplicitFiles::ANY;
  context.warn = CheckLine;
  proto::Node spec;
  const std::string text =
      absl::StrCat("discard: UNMAP read_only: ", writable_ ? "false" : "true",
                   " qcow2 { file { filename: \"", path_, "\" } }");
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  const auto node = co_await OpenNode(graph, spec, context);
  if (!node.ok()) {
    CheckLine(node.status().message());
  } else {
    Permissions used = kConsistentRead;
    if (writable_) used |= kWrite | kResize;
    auto backend = Backend::Create("fuzz", *node, {used, kAllPermissions});
    EXPECT_TRUE(backend.ok()) << backend.status();
    co_await LearnContent(backend->get());
    if (together) {
      modelled_ = false;
      co_await RunTogether(backend->get(), operations);
    } else {
      for (const DiskOp& op : *operations) co_await Do(backend->get(), op);
      co_await Read(backend->get(), {0, static_cast<int64_t>(model_.size())});
    }
  }
  const absl::Status closed = co_await graph.Close();
  if (sound_) EXPECT_TRUE(closed.ok()) << closed;
}

Task<void> DiskRun::RunTogether(Backend* backend,
                                const std::vector<DiskOp>* operations) {
  InFlight running;
  for (const DiskOp& op : *operations) {
    Spawn(RunOne(backend, op, running.Hold()));
  }
  co_await running.WaitIdle();
}

Task<void> DiskRun::RunOne(Backend* backend, DiskOp op,
                           InFlight::Holder holder) {
  const InFlight::Holder held = std::move(holder);
  co_await Do(backend, op);
}

Range DiskRun::PickRange(const Backend& backend, const DiskOp& op) const {
  const int64_t size = backend.size();
  int64_t bytes = op.bytes;
  if ((op.flags & kLarge) != 0) bytes *= 16;
  int64_t offset = op.place;
  if ((op.flags & kFarAway) != 0 && size > 2 * kModelled) {
    offset = size - 1 - offset % (size - 2 * kModelled);
  } else {
    offset %= std::clamp<int64_t>(size, 1, kModelled);
    bytes = std::min(bytes, kModelled - offset);
  }
  if ((op.flags & kAligned) != 0) {
    offset = AlignDown(offset, 512);
    bytes = AlignUp(bytes, 512);
  }
  return {offset, std::clamp<int64_t>(size - offset, 0, bytes)};
}

Task<void> DiskRun::Do(Backend* backend, DiskOp op) {
  const Range range = PickRange(*backend, op);
  Kind kind = static_cast<Kind>(op.kind % kKinds);
  if (kind > Kind::kStatus && !writable_) kind = Kind::kRead;
  switch (kind) {
    case Kind::kRead:
      return Read(backend, range);
    case Kind::kStatus:
      return Status(backend, range);
    case Kind::kWrite:
      return Write(backend, range, op.place * 31 + op.bytes);
    case Kind::kZero:
      return Zero(backend, range,
                  (op.flags & kMayUnmapIt) != 0 ? kMayUnmap : 0);
    case Kind::kDiscard:
      return Discard(backend, range);
    case Kind::kReserve:
      return Reserve(backend, range);
    case Kind::kTruncate:
      return Truncate(backend, (op.flags & kFarAway) != 0
                                   ? range.end() + op.bytes
                                   : op.place % (2 * kModelled));
    case Kind::kFlush:
      return Flush(backend);
  }
}

// What the disk reads at first; or, opened again, what it read before.
Task<void> DiskRun::LearnContent(Backend* backend) {
  const int64_t bytes = std::min(backend->size(), kModelled);
  std::string content(static_cast<size_t>(bytes), '?');
  const IoStatus status =
      co_await backend->Read(0, IoView(content.data(), bytes));
  if (modelled_) {
    EXPECT_TRUE(status.ok()) << status.error();
    EXPECT_TRUE(content == model_) << "it reads differently when reopened";
  }
  // Compressed data may be damaged in an image that is sound otherwise.
  modelled_ = sound_ && status.ok();
  model_ = std::move(content);
}

bool DiskRun::Succeeds(const char* what, IoStatus status) const {
  if (modelled_) EXPECT_TRUE(status.ok()) << what << ": " << status.error();
  return status.ok();
}

void DiskRun::Put(Range range, absl::string_view data) {
  if (!modelled_ || range.offset >= kModelled) return;
  model_.replace(static_cast<size_t>(range.offset), data.size(), data.data(),
                 data.size());
}

Task<void> DiskRun::Read(Backend* backend, Range range) {
  std::string data(static_cast<size_t>(range.bytes), '?');
  const IoStatus status =
      co_await backend->Read(range.offset, IoView(data.data(), range.bytes));
  if (!Knows(range) || !Succeeds("read", status)) co_return;
  EXPECT_TRUE(data == model_.substr(static_cast<size_t>(range.offset),
                                    static_cast<size_t>(range.bytes)))
      << range.bytes << " bytes at " << range.offset;
}

Task<void> DiskRun::Status(Backend* backend, Range range) {
  for (int i = 0; i < kMaxStatuses && range.bytes > 0; ++i) {
    const IoResult<BlockStatus> status =
        co_await backend->Status(range.offset, range.bytes);
    if (!status.ok()) break;
    EXPECT_GT(status->bytes, 0);
    EXPECT_LE(status->bytes, range.bytes);
    if (status->bytes <= 0 || status->bytes > range.bytes) break;
    const Range part = {range.offset, status->bytes};
    if (Knows(part) && (status->flags & BlockStatus::kZero) != 0) {
      const std::string data = model_.substr(static_cast<size_t>(part.offset),
                                             static_cast<size_t>(part.bytes));
      EXPECT_EQ(data.find_first_not_of('\0'), std::string::npos)
          << "no zeros at " << part.offset;
    }
    range = {part.end(), range.bytes - part.bytes};
  }
}

Task<void> DiskRun::Write(Backend* backend, Range range, uint32_t tag) {
  std::string data = Pattern(tag, range.bytes);
  const IoStatus status =
      co_await backend->Write(range.offset, IoView(data.data(), range.bytes));
  if (Knows(range) && Succeeds("write", status)) Put(range, data);
}

Task<void> DiskRun::Zero(Backend* backend, Range range, RequestFlags flags) {
  const IoStatus status =
      co_await backend->Zero(range.offset, range.bytes, flags);
  if (!Knows(range) || !Succeeds("zero", status)) co_return;
  Put(range, std::string(static_cast<size_t>(range.bytes), '\0'));
}

// May make zeros of each byte, or not.
Task<void> DiskRun::Discard(Backend* backend, Range range) {
  const IoStatus status = co_await backend->Discard(range.offset, range.bytes);
  if (!Knows(range) || !Succeeds("discard", status)) co_return;
  std::string data(static_cast<size_t>(range.bytes), '?');
  const IoStatus read =
      co_await backend->Read(range.offset, IoView(data.data(), range.bytes));
  if (!Succeeds("read", read)) co_return;
  for (size_t i = 0; i < data.size(); ++i) {
    const char before = model_[static_cast<size_t>(range.offset) + i];
    if (data[i] == 0 || data[i] == before) continue;
    ADD_FAILURE() << "a discard changed byte " << i << " behind "
                  << range.offset;
    break;
  }
  Put(range, data);
}

Task<void> DiskRun::Reserve(Backend* backend, Range range) {
  const IoStatus status = co_await backend->Reserve(range.offset, range.bytes);
  if (Knows(range) && status.error() != ENOTSUP) Succeeds("reserve", status);
}

Task<void> DiskRun::Flush(Backend* backend) {
  Succeeds("flush", co_await backend->Flush());
}

Task<void> DiskRun::Truncate(Backend* backend, int64_t size) {
  const IoStatus status = co_await backend->Truncate(size, /*exact=*/true);
  if (status.ok()) EXPECT_EQ(backend->size(), size);
  if (!modelled_ || !status.ok()) co_return;
  model_.resize(static_cast<size_t>(std::min(size, kModelled)), '\0');
}

}  // namespace bgfs
