// IoView: a run of bytes in memory that somebody else owns, in one piece or in
// several, as a request carries it from the client to the disk. Slicing takes
// no memory. The pieces, and the iovec array that lists them, must outlive the
// view and all its slices.

#ifndef BGFS_GRAPH_ASYNC_IO_VIEW_H_
#define BGFS_GRAPH_ASYNC_IO_VIEW_H_

#include <sys/uio.h>

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"

namespace bgfs {

using IovecList = absl::InlinedVector<iovec, 4>;

class IoView {
 public:
  IoView() = default;
  // `bytes` bytes at `data`. A view to write from never changes its bytes.
  IoView(void* data, int64_t bytes) : base_(data), bytes_(bytes) {}
  IoView(const void* data, int64_t bytes)
      : base_(const_cast<void*>(data)), bytes_(bytes) {}
  // All the pieces of `pieces`, in order.
  explicit IoView(absl::Span<const iovec> pieces);

  int64_t size() const { return bytes_; }
  bool contiguous() const { return pieces_ == nullptr; }
  // The bytes of a contiguous view.
  char* data() const { return static_cast<char*>(base_); }

  // The part [offset, offset + bytes), which must lie inside.
  IoView Slice(int64_t offset, int64_t bytes) const;
  // Appends the pieces to `list`.
  void AppendTo(IovecList* list) const;

  void CopyTo(void* to) const;            // size() bytes
  void CopyFrom(const void* from) const;  // size() bytes
  void Zero() const;
  // Looks at each byte once, so that a byte which somebody changes meanwhile
  // counts as what it was at one moment.
  bool AllZero() const;
  int64_t CountPieces() const;
  // Whether every piece's address and length is a multiple of `alignment`, a
  // power of two.
  bool AlignedTo(int64_t alignment) const;

 private:
  // Calls visit(data, bytes) for each piece, until it returns false.
  template <typename Visitor>
  bool ForEach(Visitor visit) const;

  const iovec* pieces_ = nullptr;  // null: one piece, at base_
  void* base_ = nullptr;
  int64_t skip_ = 0;  // bytes of the first piece that are not part
  int64_t bytes_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_IO_VIEW_H_
