// Which transport carries a connection.
#ifndef BGFS_FUSE_MAKE_TRANSPORT_H_
#define BGFS_FUSE_MAKE_TRANSPORT_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "fuse/device.h"
#include "fuse/transport.h"
#include "graph/async/loop.h"

namespace bgfs::fuse {

enum class TransportChoice : uint8_t {
  kAuto,  // io_uring where it is to be had
  kUring,
  kDev,
};

// For a connection served on `loop`, which outlives it. Where io_uring is not
// to be had, kAuto takes /dev/fuse and kUring fails (FailedPrecondition,
// ResourceExhausted); what INIT decides comes later (Transport::Settle).
absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(
    Loop* loop, Device device, TransportChoice choice);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_MAKE_TRANSPORT_H_
