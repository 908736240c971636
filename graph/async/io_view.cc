#include "graph/async/io_view.h"

#include <algorithm>
#include <cstring>

#include "graph/async/check.h"

namespace bgfs {

IoView::IoView(absl::Span<const iovec> pieces) {
  for (const iovec& piece : pieces) {
    bytes_ += static_cast<int64_t>(piece.iov_len);
  }
  if (pieces.size() == 1) {
    base_ = pieces[0].iov_base;
  } else {
    pieces_ = pieces.data();
  }
}

IoView IoView::Slice(int64_t offset, int64_t bytes) const {
  BGFS_CHECK(offset >= 0 && bytes >= 0 && bytes <= bytes_ - offset);
  IoView part = *this;
  part.bytes_ = bytes;
  if (contiguous()) {
    part.base_ = data() + offset;
    return part;
  }
  if (bytes == 0) return IoView();
  part.skip_ += offset;
  while (part.skip_ >= static_cast<int64_t>(part.pieces_->iov_len)) {
    part.skip_ -= static_cast<int64_t>(part.pieces_->iov_len);
    ++part.pieces_;
  }
  const int64_t first = static_cast<int64_t>(part.pieces_->iov_len);
  if (bytes <= first - part.skip_) {
    return IoView(static_cast<char*>(part.pieces_->iov_base) + part.skip_,
                  bytes);
  }
  return part;
}

template <typename Visitor>
bool IoView::ForEach(Visitor visit) const {
  if (contiguous()) return bytes_ == 0 || visit(data(), bytes_);
  int64_t left = bytes_;
  int64_t skip = skip_;
  for (const iovec* piece = pieces_; left > 0; ++piece) {
    const int64_t here =
        std::min(left, static_cast<int64_t>(piece->iov_len) - skip);
    if (here > 0 && !visit(static_cast<char*>(piece->iov_base) + skip, here)) {
      return false;
    }
    left -= here;
    skip = 0;
  }
  return true;
}

void IoView::AppendTo(IovecList* list) const {
  ForEach([list](char* data, int64_t bytes) {
    list->push_back({data, static_cast<size_t>(bytes)});
    return true;
  });
}

void IoView::CopyTo(void* to) const {
  char* out = static_cast<char*>(to);
  ForEach([&out](const char* data, int64_t bytes) {
    std::memcpy(out, data, static_cast<size_t>(bytes));
    out += bytes;
    return true;
  });
}

void IoView::CopyFrom(const void* from) const {
  const char* in = static_cast<const char*>(from);
  ForEach([&in](char* data, int64_t bytes) {
    std::memcpy(data, in, static_cast<size_t>(bytes));
    in += bytes;
    return true;
  });
}

void IoView::Zero() const {
  ForEach([](char* data, int64_t bytes) {
    std::memset(data, 0, static_cast<size_t>(bytes));
    return true;
  });
}

namespace {

// Comparing the memory with itself, one byte further, would look at each byte
// twice.
bool IsZero(const char* data, int64_t bytes) {
  constexpr int64_t kWords = 8;
  constexpr int64_t kBlock = kWords * int64_t{sizeof(uint64_t)};
  while (bytes >= kBlock) {
    uint64_t words[kWords];
    std::memcpy(words, data, sizeof(words));
    uint64_t any = 0;
    for (const uint64_t word : words) any |= word;
    if (any != 0) return false;
    data += kBlock;
    bytes -= kBlock;
  }
  unsigned any = 0;
  for (int64_t i = 0; i < bytes; ++i)
    any |= static_cast<unsigned char>(data[i]);
  return any == 0;
}

}  // namespace

bool IoView::AllZero() const { return ForEach(IsZero); }

int64_t IoView::CountPieces() const {
  int64_t count = 0;
  ForEach([&count](const char*, int64_t) {
    ++count;
    return true;
  });
  return count;
}

bool IoView::AlignedTo(int64_t alignment) const {
  const uint64_t mask = static_cast<uint64_t>(alignment) - 1;
  return ForEach([mask](const char* data, int64_t bytes) {
    return ((reinterpret_cast<uintptr_t>(data) | static_cast<uint64_t>(bytes)) &
            mask) == 0;
  });
}

}  // namespace bgfs
