// ThreadFile: a host file on a ThreadLoop. What may wait goes to a thread, at
// most kMaxThreads operations of one file at a time; more wait in its queue, in
// order. So a disk that hangs holds up its own files and those of nobody else,
// until ThreadPool::kMaxBlocking / kMaxThreads files hang at once.
//
//   Submit() ──▶ waiting_ ──▶ thread: the system call ──▶ loop: Finish()
//                    ▲                                       │
//                    └──────────── the next one ─────────────┘

#ifndef BGFS_GRAPH_ASYNC_THREAD_FILE_H_
#define BGFS_GRAPH_ASYNC_THREAD_FILE_H_

#include <deque>

#include "graph/async/host_file.h"
#include "graph/async/thread_loop.h"

namespace bgfs {

class ThreadFile final : public HostFile {
 public:
  static constexpr int kMaxThreads = 16;

  ThreadFile(ThreadLoop* loop, OpenResult opened, OpenOptions options)
      : HostFile(loop, opened, options), loop_(loop) {}
  ~ThreadFile() override;

 private:
  void Submit(FileOp* op, bool blocks) override;
  void HandOver(FileOp* op);
  void Finish(FileOp* op);

  ThreadLoop* const loop_;
  // Of the loop's thread: a thread that works for us knows one operation only.
  std::deque<FileOp*> waiting_;
  int running_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_THREAD_FILE_H_
