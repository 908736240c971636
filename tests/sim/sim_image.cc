#include "tests/sim/sim_image.h"

#include <algorithm>
#include <cstring>

#include "graph/async/check.h"

namespace bgfs {
namespace {

int64_t BlockOf(int64_t offset) { return offset / SimImage::kBlock; }
int64_t BlockAfter(int64_t end) {
  return (end + SimImage::kBlock - 1) / SimImage::kBlock;
}

}  // namespace

SimChange SimChange::Part(int64_t from, int64_t length) const {
  BGFS_CHECK(Tears() && from >= 0 && length >= 0 && from + length <= bytes);
  SimChange part{kind, offset + from, length, keep_size};
  if (kind == Kind::kWrite) {
    part.data =
        data.substr(static_cast<size_t>(from), static_cast<size_t>(length));
  }
  return part;
}

int64_t SimImage::MissingBytes(const SimChange& change) const {
  if (change.kind == SimChange::Kind::kPunch ||
      change.kind == SimChange::Kind::kResize || change.bytes == 0) {
    return 0;
  }
  const int64_t first = BlockOf(change.offset);
  const int64_t end = BlockAfter(change.offset + change.bytes);
  const auto there =
      std::distance(blocks_.lower_bound(first), blocks_.lower_bound(end));
  return (end - first - there) * kBlock;
}

void SimImage::Apply(const SimChange& change) {
  const int64_t end = change.offset + change.bytes;
  switch (change.kind) {
    case SimChange::Kind::kWrite:
      Write(change);
      break;
    case SimChange::Kind::kPunch:
      Clear(change.offset, change.bytes);
      break;
    case SimChange::Kind::kZero:
      Clear(change.offset, change.bytes);
      Allocate(change.offset, change.bytes);
      break;
    case SimChange::Kind::kAllocate:
      Allocate(change.offset, change.bytes);
      break;
    case SimChange::Kind::kResize:
      if (change.bytes < size_) {
        blocks_.erase(blocks_.lower_bound(BlockAfter(change.bytes)),
                      blocks_.end());
        Clear(change.bytes, size_ - change.bytes);
      }
      size_ = change.bytes;
      return;
  }
  if (!change.keep_size && change.bytes > 0) size_ = std::max(size_, end);
}

void SimImage::Write(const SimChange& change) {
  int64_t done = 0;
  while (done < change.bytes) {
    const int64_t at = change.offset + done;
    const int64_t in_block = at % kBlock;
    const int64_t here = std::min(kBlock - in_block, change.bytes - done);
    Block& block = blocks_[BlockOf(at)];
    block.written = true;
    std::memcpy(&block.data[static_cast<size_t>(in_block)],
                &change.data[static_cast<size_t>(done)],
                static_cast<size_t>(here));
    done += here;
  }
}

// Frees the whole blocks of the range and zeroes the parts of others.
void SimImage::Clear(int64_t offset, int64_t bytes) {
  const int64_t end = offset + bytes;
  auto it = blocks_.lower_bound(BlockOf(offset));
  while (it != blocks_.end() && it->first * kBlock < end) {
    const int64_t start = it->first * kBlock;
    const int64_t from = std::max(offset, start) - start;
    const int64_t to = std::min(end, start + kBlock) - start;
    if (to - from == kBlock) {
      it = blocks_.erase(it);
      continue;
    }
    std::fill_n(&it->second.data[static_cast<size_t>(from)], to - from, '\0');
    ++it;
  }
}

void SimImage::Allocate(int64_t offset, int64_t bytes) {
  for (int64_t i = BlockOf(offset); i < BlockAfter(offset + bytes); ++i) {
    blocks_.try_emplace(i);
  }
}

std::string SimImage::Read(int64_t offset, int64_t bytes) const {
  std::string out(static_cast<size_t>(bytes), '\0');
  const int64_t end = offset + bytes;
  for (auto it = blocks_.lower_bound(BlockOf(offset));
       it != blocks_.end() && it->first * kBlock < end; ++it) {
    const int64_t start = it->first * kBlock;
    const int64_t from = std::max(offset, start);
    const int64_t to = std::min(end, start + kBlock);
    std::memcpy(&out[static_cast<size_t>(from - offset)],
                &it->second.data[static_cast<size_t>(from - start)],
                static_cast<size_t>(to - from));
  }
  return out;
}

bool SimImage::Written(int64_t index) const {
  const auto it = blocks_.find(index);
  return it != blocks_.end() && it->second.written;
}

std::optional<int64_t> SimImage::NextData(int64_t offset) const {
  if (offset < 0 || offset >= size_) return std::nullopt;
  for (auto it = blocks_.lower_bound(BlockOf(offset));
       it != blocks_.end() && it->first * kBlock < size_; ++it) {
    if (it->second.written) return std::max(offset, it->first * kBlock);
  }
  return std::nullopt;
}

std::optional<int64_t> SimImage::NextHole(int64_t offset) const {
  if (offset < 0 || offset >= size_) return std::nullopt;
  while (offset < size_ && Written(BlockOf(offset))) {
    offset = (BlockOf(offset) + 1) * kBlock;
  }
  return std::min(offset, size_);
}

}  // namespace bgfs
