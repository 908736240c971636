// The wire format of FUSE requests: every byte that the kernel sends is looked
// at here, once, bounds-checked, and nowhere else.
//
//   fuse_in_header | arguments of the opcode | names or data
//
// A pure function over bytes: any input gives a request or an errno. The
// payload is never copied; names and data point into the message.
#ifndef BGFS_FUSE_WIRE_H_
#define BGFS_FUSE_WIRE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fuse/abi.h"
#include "graph/async/io_status.h"

namespace bgfs::fuse {

struct FuseRequest {
  uint32_t opcode = 0;
  uint32_t pid = 0;
  uint64_t unique = 0;  // what the reply names
  uint64_t node_id = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;

  // The member of the opcode; zeros for an opcode without arguments.
  union Arguments {
    Arguments() : setattr{} {}
    fuse_setattr_in setattr;
    fuse_init_in init;
    fuse_interrupt_in interrupt;
    fuse_getattr_in getattr;
    fuse_open_in open;
    fuse_read_in read;  // and READDIR, READDIRPLUS
    fuse_write_in write;
    fuse_fsync_in fsync;  // and FSYNCDIR
    fuse_fallocate_in fallocate;
    fuse_lseek_in lseek;
    fuse_copy_file_range_in copy_file_range;
  } args;

  absl::string_view name;       // LOOKUP: without the final zero byte
  absl::Span<const char> data;  // WRITE: args.write.size bytes
};

// Decodes one message as it was read. On failure `request->unique` tells whom
// to answer: 0 if not even that is to be had. Errors: EINVAL (garbled), ENOSYS
// (an opcode that bgfs does not have; header decoded).
IoStatus Decode(absl::Span<const char> message, FuseRequest* request);

// The same for one that a ring brings in parts: the header, the arguments of
// the opcode at the front of their area, and names or data, which are all of
// the payload that is used. `payload` is the room for it.
IoStatus Decode(const RingHeader& header, absl::Span<const char> payload,
                FuseRequest* request);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_WIRE_H_
