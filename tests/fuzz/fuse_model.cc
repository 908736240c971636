#include "tests/fuzz/fuse_model.h"

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "gtest/gtest.h"

namespace bgfs::fuse {
namespace {

using Kind = SimChange::Kind;

// A seek may skip more than it makes sense to look at.
constexpr int64_t kMaxLook = int64_t{1} << 20;

}  // namespace

void FuseModel::Apply(Kind kind, int64_t offset, int64_t bytes) {
  SimChange change;
  change.kind = kind;
  change.offset = offset;
  change.bytes = bytes;
  change.keep_size = kind == Kind::kPunch;
  image_.Apply(change);
}

void FuseModel::Put(int64_t offset, std::string data) {
  if (data.empty()) return;
  SimChange change;
  change.offset = offset;
  change.bytes = static_cast<int64_t>(data.size());
  change.data = std::move(data);
  image_.Apply(change);
}

bool FuseModel::IsZero(int64_t offset, int64_t bytes) const {
  const std::string data = image_.Read(offset, std::min(bytes, kMaxLook));
  return std::all_of(data.begin(), data.end(), [](char c) { return c == 0; });
}

void FuseModel::OnAnswer(const FuseClient::Call& call) {
  if (call.header().nodeid != node_id_) return;
  switch (call.opcode()) {
    case FUSE_READ:
      return OnRead(call);
    case FUSE_WRITE:
      return OnWrite(call);
    case FUSE_FALLOCATE:
      return OnAllocate(call);
    case FUSE_COPY_FILE_RANGE:
    case kOpCopyFileRange64:
      return OnCopy(call);
    case FUSE_LSEEK:
      return OnSeek(call);
    case FUSE_GETATTR:
    case FUSE_SETATTR:
      return OnAttributes(call);
    default:
      return;
  }
}

void FuseModel::OnRead(const FuseClient::Call& call) {
  const auto in = call.Arguments<fuse_read_in>();
  const auto offset = static_cast<int64_t>(
      std::min<uint64_t>(in.offset, static_cast<uint64_t>(size())));
  const int64_t bytes = std::min<int64_t>(in.size, size() - offset);
  ASSERT_EQ(static_cast<int64_t>(call.answer.size()), bytes);
  EXPECT_TRUE(call.answer == image_.Read(offset, bytes))
      << bytes << " bytes at " << offset;
}

void FuseModel::OnWrite(const FuseClient::Call& call) {
  const auto in = call.Arguments<fuse_write_in>();
  const uint32_t told = call.Answer<fuse_write_out>().size;
  EXPECT_LE(told, in.size);
  const auto offset = static_cast<int64_t>(in.offset);
  int64_t bytes = told;
  if ((in.write_flags & FUSE_WRITE_CACHE) != 0) {
    bytes = std::clamp<int64_t>(size() - offset, 0, bytes);
  }
  Put(offset,
      call.message.substr(sizeof(fuse_in_header) + sizeof(fuse_write_in),
                          static_cast<size_t>(bytes)));
}

void FuseModel::OnAllocate(const FuseClient::Call& call) {
  const auto in = call.Arguments<fuse_fallocate_in>();
  const auto offset = static_cast<int64_t>(in.offset);
  auto bytes = static_cast<int64_t>(in.length);
  if ((in.mode & FALLOC_FL_KEEP_SIZE) != 0) {
    bytes = std::clamp<int64_t>(size() - offset, 0, bytes);
  } else if (offset + bytes > size()) {
    Apply(Kind::kResize, 0, offset + bytes);
  }
  constexpr uint32_t kZeroes = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((in.mode & kZeroes) != 0) Apply(Kind::kPunch, offset, bytes);
}

void FuseModel::OnCopy(const FuseClient::Call& call) {
  const auto in = call.Arguments<fuse_copy_file_range_in>();
  const uint64_t told = call.opcode() == kOpCopyFileRange64
                            ? call.Answer<CopyFileRangeOut>().bytes_copied
                            : call.Answer<fuse_write_out>().size;
  ASSERT_LE(told, in.len);
  if (told == 0) return;
  ASSERT_LE(in.off_in + told, static_cast<uint64_t>(size()));
  Put(static_cast<int64_t>(in.off_out),
      image_.Read(static_cast<int64_t>(in.off_in), static_cast<int64_t>(told)));
}

void FuseModel::OnSeek(const FuseClient::Call& call) {
  const auto in = call.Arguments<fuse_lseek_in>();
  const auto found = static_cast<int64_t>(call.Answer<fuse_lseek_out>().offset);
  const auto offset = static_cast<int64_t>(in.offset);
  EXPECT_GE(found, offset);
  EXPECT_LE(found, size());
  if (in.whence == SEEK_DATA) {
    EXPECT_LT(found, size());
    EXPECT_TRUE(IsZero(offset, found - offset));
  } else if (found < size()) {
    EXPECT_TRUE(IsZero(found, 1));
  }
}

void FuseModel::OnAttributes(const FuseClient::Call& call) {
  if (call.opcode() == FUSE_SETATTR) {
    const auto in = call.Arguments<fuse_setattr_in>();
    if ((in.valid & FATTR_SIZE) != 0) {
      Apply(Kind::kResize, 0, static_cast<int64_t>(in.size));
    }
  }
  const auto out = call.Answer<fuse_attr_out>();
  EXPECT_EQ(out.attr.size, static_cast<uint64_t>(size()));
  EXPECT_LE(out.attr.blocks, out.attr.size / 512 + 1);
  // Zero blocks say that there is no data (tar -S).
  if (out.attr.blocks == 0) EXPECT_TRUE(IsZero(0, size()));
}

}  // namespace bgfs::fuse
