// INIT: what the kernel offers, what bgfs takes of it, and what follows for
// open files. Pure functions.
#ifndef BGFS_FUSE_NEGOTIATE_H_
#define BGFS_FUSE_NEGOTIATE_H_

#include <cstdint>

#include "fuse/abi.h"
#include "graph/async/io_status.h"

namespace bgfs::fuse {

// Makes a newer kernel look like an older one, so that tests run the paths of
// both.
struct KernelMask {
  // Treated as not offered; without FUSE_INIT_EXT that are all from 1 << 32 on.
  uint64_t init_flags = 0;
  uint32_t max_minor = ~0u;  // of the protocol
};

// What a transport can carry.
struct Carries {
  uint32_t max_write_bytes = 0;
  uint64_t init_flags = 0;  // beside those that any transport can do
  // Background requests (asynchronous I/O) that the kernel sends at once; a
  // connection is the unit of back-pressure. The second where a ring is agreed
  // on.
  uint16_t max_background = 512;
  uint16_t ring_background = 0;
};

struct Agreement {
  uint32_t minor = 0;       // of the protocol, as the kernel speaks it
  uint64_t init_flags = 0;  // in force
  // FOPEN_ flags of a file whose data bypasses the kernel's cache.
  uint32_t direct_open_flags = 0;

  bool Has(uint64_t flag) const { return (init_flags & flag) != 0; }
  bool ParallelDirectWrites() const {
    return (direct_open_flags & FOPEN_PARALLEL_DIRECT_WRITES) != 0;
  }
};

// The oldest protocol spoken here: 7.31, Linux 5.4.
inline constexpr uint32_t kOldestMinor = 31;

// Fills the answer. EPROTO where the kernel is too old. A kernel of a newer
// major is answered with ours and asks again; `agreement->minor` is 0 then.
IoStatus Negotiate(const fuse_init_in& in, const KernelMask& mask,
                   const Carries& carries, fuse_init_out* out,
                   Agreement* agreement);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_NEGOTIATE_H_
