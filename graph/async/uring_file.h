// UringFile: a host file on a UringLoop. What may wait goes to the ring.

#ifndef BGFS_GRAPH_ASYNC_URING_FILE_H_
#define BGFS_GRAPH_ASYNC_URING_FILE_H_

#include "graph/async/host_file.h"
#include "graph/async/uring_loop.h"

namespace bgfs {

class UringFile final : public HostFile {
 public:
  UringFile(UringLoop* loop, OpenResult opened, OpenOptions options)
      : HostFile(loop, opened, options), loop_(loop) {}

 private:
  void Submit(FileOp* op, bool blocks) override;
  void SubmitTransfer(FileOp* op, bool blocks);

  UringLoop* const loop_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_URING_FILE_H_
