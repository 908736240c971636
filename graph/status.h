// Block status through a chain of layers (engine.md, 2.9).

#ifndef BGFS_GRAPH_STATUS_H_
#define BGFS_GRAPH_STATUS_H_

#include <cstdint>

#include "graph/async/io_status.h"
#include "graph/async/task.h"
#include "graph/node.h"
#include "graph/types.h"

namespace bgfs {

// What a reader of `edge` sees at `offset`: kData or kZero, from the first
// layer that decides it; `bytes` > 0. A range past the end gives kZero | kEof.
// `parent` is the request whose driver asks, null at a root.
Task<IoResult<BlockStatus>> StatusOfChain(Child& edge, Request* parent,
                                          int64_t offset, int64_t bytes);

// Whether the content is decided by a layer from `edge` down to, and without,
// `base` (null: the whole chain): kAllocated or not, and how far.
Task<IoResult<BlockStatus>> StatusAbove(Child& edge, const Node* base,
                                        Request* parent, int64_t offset,
                                        int64_t bytes);

}  // namespace bgfs

#endif  // BGFS_GRAPH_STATUS_H_
