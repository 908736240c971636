// CopyLane: large transfers between memory and the page cache, one after
// another on one other thread, while the loop takes in the next request.
//
//   loop ──Start──▶ waiting ──▶ the lane's thread: the system call
//   loop ◀──────────── Post ────────────┘
//
// One thread for each direction of a file is the fastest: those who write the
// same file wait for each other in the kernel (the inode's lock of ext4, xfs
// and btrfs), and more readers than one take their time from the loop and from
// the client, which have to copy as well.

#ifndef BGFS_GRAPH_ASYNC_COPY_LANE_H_
#define BGFS_GRAPH_ASYNC_COPY_LANE_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>

#include "graph/async/loop.h"

namespace bgfs {

class CopyLane {
 public:
  // `loop` outlives the lane.
  explicit CopyLane(Loop* loop)
      : loop_(loop), shared_(std::make_shared<Shared>()) {}
  CopyLane(const CopyLane&) = delete;
  CopyLane& operator=(const CopyLane&) = delete;
  // Idle.
  ~CopyLane() { BGFS_CHECK(in_lane_ == 0); }

  // The rest on the loop's thread.

  // Does `work` on the lane's thread after what was added before, then `done`
  // on the loop.
  void Add(Loop::Work work, Loop::Work done);
  // Whether something was added that is not done.
  bool busy() const { return in_lane_ > 0; }

 private:
  struct Item {
    Loop::Work work;
    Loop::Work done;
  };
  // Outlives the lane by the moment in which its thread finds nothing more.
  struct Shared {
    std::mutex mutex;  // guards the rest
    std::deque<Item> waiting;
    bool has_thread = false;
  };

  static void Run(Loop* loop, Shared* shared);

  Loop* const loop_;
  const std::shared_ptr<Shared> shared_;
  size_t in_lane_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_COPY_LANE_H_
