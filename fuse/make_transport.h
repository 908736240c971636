// Which transport carries a connection.
#ifndef BGFS_FUSE_MAKE_TRANSPORT_H_
#define BGFS_FUSE_MAKE_TRANSPORT_H_

#include <cstdint>
#include <memory>

#include "fuse/device.h"
#include "fuse/transport.h"
#include "graph/async/loop.h"

namespace bgfs::fuse {

enum class TransportChoice : uint8_t {
  kAuto,  // io_uring where it is to be had
  kUring,
  kDev,
};

// Whether the kernel offers FUSE over io_uring; an administrator may switch it
// on (enable_uring) at any time.
bool KernelOffersUring();

// For a connection served on `loop`, which outlives it. Where io_uring is not
// to be had it is /dev/fuse, whatever was chosen.
std::unique_ptr<Transport> MakeTransport(Loop* loop, Device device,
                                         TransportChoice choice);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_MAKE_TRANSPORT_H_
