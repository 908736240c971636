// HostBytes: a rare ability of a driver (house.md, "Where a thing belongs").
// The bytes of its node are exactly those of one regular file of the host, each
// at its own offset. So a front end may give that file to the kernel, which
// then carries data between clients and the file past the engine.
//
// Of what is written that way the engine keeps no books: no statistics, dirty
// bitmaps or write threshold. Only for a node that nobody else writes, and that
// nobody else uses where it is written so (Backend::LetBypass()).

#ifndef BGFS_GRAPH_HOST_BYTES_H_
#define BGFS_GRAPH_HOST_BYTES_H_

#include "graph/async/file.h"
#include "graph/async/io_status.h"
#include "graph/async/task.h"

namespace bgfs {

class Request;

class HostBytes {
 public:
  // The open file, which stays the driver's; -1 in a simulation.
  virtual int descriptor() const = 0;

  // What the host says of the file now. `request` has claimed all from the
  // node's present end on.
  virtual Task<IoResult<FileInfo>> Look(Request& request) = 0;

 protected:
  ~HostBytes() = default;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_HOST_BYTES_H_
