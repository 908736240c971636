#include "fuse/make_transport.h"

#include <utility>

#include "fuse/dev_transport.h"
#include "fuse/ring_support.h"
#include "fuse/uring_transport.h"

namespace bgfs::fuse {
namespace {

absl::StatusOr<std::unique_ptr<Transport>> MakeUring(Loop* loop,
                                                     Device device) {
  auto* uring = dynamic_cast<UringLoop*>(loop);
  if (uring == nullptr) return absl::UnimplementedError("the loop has no ring");
  if (absl::Status s = RequireRing(); !s.ok()) return s;
  return UringTransport::Create(uring, std::move(device), {});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(
    Loop* loop, Device device, TransportChoice choice) {
  if (choice != TransportChoice::kDev) {
    auto transport = MakeUring(loop, device);
    if (transport.ok() || choice == TransportChoice::kUring) return transport;
  }
  return std::make_unique<DevTransport>(loop, std::move(device));
}

}  // namespace bgfs::fuse
