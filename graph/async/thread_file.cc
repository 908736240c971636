#include "graph/async/thread_file.h"

#include "graph/async/thread_pool.h"

namespace bgfs {

ThreadFile::~ThreadFile() { BGFS_CHECK(running_ == 0 && waiting_.empty()); }

void ThreadFile::Submit(FileOp* op, bool /*blocks*/) {
  if (running_ == kMaxThreads) {
    waiting_.push_back(op);
    return;
  }
  ++running_;
  HandOver(op);
}

// Two words fit into Work and Post() without an allocation.
void ThreadFile::HandOver(FileOp* op) {
  ThreadPool::Blocking().Add([this, op] {
    op->result = Perform(op);
    loop_->Post([this, op] { Finish(op); });
  });
}

void ThreadFile::Finish(FileOp* op) {
  if (waiting_.empty()) {
    --running_;
  } else {
    FileOp* next = waiting_.front();
    waiting_.pop_front();
    HandOver(next);
  }
  // Last: whoever waited may close the file.
  op->waiter.resume();
}

}  // namespace bgfs
