// ByteScan reads a run of the image file from its start, a few bytes at a time,
// through one buffer: for tables whose entries have no fixed length. What lies
// past the end of the file reads as zeros.

#ifndef BGFS_DRIVERS_QCOW2_BYTE_SCAN_H_
#define BGFS_DRIVERS_QCOW2_BYTE_SCAN_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "drivers/qcow2/types.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// Fills `data` from the file; what lies past its end reads as zeros, also
// through the edge of a user (where the engine would fail).
inline Task<IoStatus> ReadOrZeros(Child& file, HostOffset at, IoView data) {
  const int64_t there =
      std::clamp<int64_t>(file.size() - at.value(), 0, data.size());
  data.Slice(there, data.size() - there).Zero();
  if (there == 0) co_return IoStatus();
  co_return co_await file.Read(nullptr, at.value(), data.Slice(0, there));
}

class ByteScan {
 public:
  // `file` outlives this.
  ByteScan(Child* file, HostOffset start) : file_(file), next_(start) {}

  // The offset of the next byte.
  HostOffset at() const { return next_; }
  void Skip(int64_t bytes) { next_ += bytes; }

  Task<IoStatus> Read(uint8_t* to, int64_t bytes) {
    while (bytes > 0) {
      if (next_ < start_ || next_ >= start_ + filled_) {
        start_ = next_;
        filled_ = kBufferBytes;
        BGFS_CO_TRY(co_await ReadOrZeros(*file_, start_,
                                         IoView(buffer_.data(), filled_)));
      }
      const int64_t from = next_ - start_;
      const int64_t piece = std::min(bytes, filled_ - from);
      std::memcpy(to, buffer_.data() + from, static_cast<size_t>(piece));
      to += piece;
      bytes -= piece;
      next_ += piece;
    }
    co_return IoStatus();
  }

 private:
  static constexpr int64_t kBufferBytes = 4096;

  Child* const file_;
  HostOffset next_;
  // [start_, start_ + filled_) of the file is in the buffer.
  HostOffset start_;
  int64_t filled_ = 0;
  std::array<uint8_t, kBufferBytes> buffer_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_BYTE_SCAN_H_
