// AlignedBuffer: memory for data on its way, page aligned (so fit for O_DIRECT
// and for every disk's rules), from a cache of the thread by power-of-two size.
// Move-only; freed on any thread.

#ifndef BGFS_GRAPH_ASYNC_BUFFER_H_
#define BGFS_GRAPH_ASYNC_BUFFER_H_

#include <cstdint>
#include <utility>

#include "graph/async/io_view.h"

namespace bgfs {

class AlignedBuffer {
 public:
  static constexpr int64_t kAlignment = 4096;

  AlignedBuffer() = default;
  // `bytes` > 0 uninitialised bytes; null data() when memory is short.
  static AlignedBuffer Allocate(int64_t bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~AlignedBuffer();

  explicit operator bool() const { return data_ != nullptr; }
  char* data() const { return data_; }
  int64_t size() const { return bytes_; }
  IoView view() const { return IoView(data_, bytes_); }
  IoView view(int64_t offset, int64_t bytes) const {
    return view().Slice(offset, bytes);
  }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_BUFFER_H_
