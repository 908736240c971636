#include "graph/async/frame_pool.h"

#include <array>
#include <cstdint>
#include <new>

namespace bgfs {
namespace {

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

}  // namespace

void* AllocateFrame(size_t bytes) {
  const size_t index = ClassOf(bytes);
  if (kCacheMemory && index < kClasses) return pool.Allocate(index);
  return ::operator new(bytes);
}

void FreeFrame(void* frame, size_t bytes) noexcept {
  const size_t index = ClassOf(bytes);
  if (kCacheMemory && index < kClasses) {
    pool.Free(frame, index);
  } else {
    ::operator delete(frame);
  }
}

}  // namespace bgfs
