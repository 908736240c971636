// Coroutine frames come from a free list of the thread, by size class: a frame
// costs a few nanoseconds instead of a trip through malloc. A frame may be
// freed on another thread than the one that allocated it; it then joins that
// thread's list.

#ifndef BGFS_GRAPH_ASYNC_FRAME_POOL_H_
#define BGFS_GRAPH_ASYNC_FRAME_POOL_H_

#include <cstddef>

namespace bgfs {

// Under sanitizers, caches of memory (this one and buffer.h's) are bypassed, so
// that a use after the end is seen.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BGFS_SANITIZED 1
#endif
#endif
#ifdef BGFS_SANITIZED
inline constexpr bool kCacheMemory = false;
#undef BGFS_SANITIZED
#else
inline constexpr bool kCacheMemory = true;
#endif

void* AllocateFrame(size_t bytes);
void FreeFrame(void* frame, size_t bytes) noexcept;

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_FRAME_POOL_H_
