#include "graph/status.h"

#include <algorithm>

namespace bgfs {

Task<IoResult<BlockStatus>> StatusAbove(Child& edge, const Node* base,
                                        Request* parent, int64_t offset,
                                        int64_t bytes) {
  BlockStatus status;
  status.bytes = bytes;
  bool at_end = false;
  for (Child* layer = &edge; layer != nullptr && &layer->node() != base;
       layer = layer->node().backing()) {
    auto here = co_await layer->Status(parent, offset, status.bytes,
                                       /*precise=*/true);
    if (!here.ok()) co_return here;
    if (layer == &edge) {
      at_end = (here->flags & BlockStatus::kEof) != 0;
      if (offset >= layer->size()) co_return here;
    } else if (offset >= layer->size()) {
      // A shorter backing layer reads as zeros past its end.
      here->flags |= BlockStatus::kAllocated;
    } else if (here->bytes < status.bytes) {
      at_end = false;
    }
    status = *here;
    status.flags &= ~BlockStatus::kEof;
    if (at_end) status.flags |= BlockStatus::kEof;
    if ((status.flags & BlockStatus::kAllocated) != 0) co_return status;
  }
  status.flags &= BlockStatus::kEof;
  co_return status;
}

Task<IoResult<BlockStatus>> StatusOfChain(Child& edge, Request* parent,
                                          int64_t offset, int64_t bytes) {
  auto status = co_await StatusAbove(edge, nullptr, parent, offset, bytes);
  if (status.ok() &&
      (status->flags & (BlockStatus::kData | BlockStatus::kZero)) == 0) {
    status->flags |= BlockStatus::kZero;
  }
  co_return status;
}

}  // namespace bgfs
