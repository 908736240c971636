// Coroutine frames come from a free list of the thread, by size class: a frame
// costs a few nanoseconds instead of a trip through malloc. A frame may be
// freed on another thread than the one that allocated it; it then joins that
// thread's list. Under sanitizers the lists are bypassed, so that a use after
// the end of a coroutine is seen.

#ifndef BGFS_GRAPH_ASYNC_FRAME_POOL_H_
#define BGFS_GRAPH_ASYNC_FRAME_POOL_H_

#include <cstddef>

namespace bgfs {

void* AllocateFrame(size_t bytes);
void FreeFrame(void* frame, size_t bytes) noexcept;

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_FRAME_POOL_H_
