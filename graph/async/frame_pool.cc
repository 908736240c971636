#include "graph/async/frame_pool.h"

#include <array>
#include <cstdint>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BGFS_PLAIN_FRAMES 1
#endif
#endif

namespace bgfs {
namespace {

#ifndef BGFS_PLAIN_FRAMES
constexpr size_t kClassBytes = 128;
constexpr size_t kClasses = 32;  // frames up to 4 KiB are pooled
constexpr uint32_t kMaxIdle = 256;

struct FreeNode {
  FreeNode* next;
};

struct FreeList {
  FreeNode* head = nullptr;
  uint32_t count = 0;
};

class ThreadPool {
 public:
  ~ThreadPool() {
    for (FreeList& list : lists_) {
      while (list.head != nullptr) {
        FreeNode* node = list.head;
        list.head = node->next;
        ::operator delete(node);
      }
    }
    dead_ = true;
  }

  void* Allocate(size_t index) {
    FreeList& list = lists_[index];
    if (list.head == nullptr) {
      return ::operator new((index + 1) * kClassBytes);
    }
    FreeNode* node = list.head;
    list.head = node->next;
    --list.count;
    return node;
  }

  void Free(void* frame, size_t index) {
    FreeList& list = lists_[index];
    if (dead_ || list.count >= kMaxIdle) {
      ::operator delete(frame);
      return;
    }
    auto* node = static_cast<FreeNode*>(frame);
    node->next = list.head;
    list.head = node;
    ++list.count;
  }

 private:
  std::array<FreeList, kClasses> lists_;
  bool dead_ = false;
};

thread_local ThreadPool pool;

size_t ClassOf(size_t bytes) { return (bytes - 1) / kClassBytes; }
#endif

}  // namespace

void* AllocateFrame(size_t bytes) {
#ifndef BGFS_PLAIN_FRAMES
  const size_t index = ClassOf(bytes);
  if (index < kClasses) return pool.Allocate(index);
#endif
  return ::operator new(bytes);
}

void FreeFrame(void* frame, size_t bytes) noexcept {
#ifndef BGFS_PLAIN_FRAMES
  const size_t index = ClassOf(bytes);
  if (index < kClasses) {
    pool.Free(frame, index);
    return;
  }
#endif
  (void)bytes;
  ::operator delete(frame);
}

}  // namespace bgfs
