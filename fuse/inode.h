// What a connection can name: a file or a folder with a node id. Node ids and
// file handles are fixed for the life of a connection: there is nothing to
// count, and another process could go on answering for them.
#ifndef BGFS_FUSE_INODE_H_
#define BGFS_FUSE_INODE_H_

#include <cstdint>

#include "fuse/transport.h"
#include "graph/async/io_status.h"
#include "graph/async/task.h"

namespace bgfs::fuse {

inline constexpr uint64_t kRootId = FUSE_ROOT_ID;

// As good as for ever: the kernel has 68 years in mind as well.
inline constexpr uint64_t kEndlessSeconds = uint64_t{1} << 31;

class Inode {
 public:
  explicit Inode(uint64_t node_id) : node_id_(node_id) {}
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;
  virtual ~Inode() = default;

  // Its node id, which is its inode number as well.
  uint64_t node_id() const { return node_id_; }

  // Serves a request that names it: gives how many bytes of the payload are the
  // answer, or the error. The exchange is the caller's to reply to.
  virtual Task<IoResult<uint32_t>> Serve(Exchange* exchange) = 0;

  // For stat, and for LOOKUP in its folder.
  virtual Task<IoResult<fuse_attr>> Attributes() = 0;
  // How long the kernel may keep them.
  virtual uint64_t attribute_seconds() const { return kEndlessSeconds; }
  virtual Task<IoResult<fuse_kstatfs>> FileSystem() = 0;

 protected:
  // The answer to GETATTR and SETATTR.
  Task<IoResult<uint32_t>> PutAttributes(Exchange* exchange);
  Task<IoResult<uint32_t>> PutFileSystem(Exchange* exchange);

 private:
  const uint64_t node_id_;
};

// An answer that is known at once.
Task<IoResult<uint32_t>> Answer(IoResult<uint32_t> answer);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_INODE_H_
