#include "fuse/make_transport.h"

#include <fstream>
#include <utility>

#include "fuse/dev_transport.h"
#include "fuse/uring_transport.h"

namespace bgfs::fuse {

bool KernelOffersUring() {
  std::ifstream file("/sys/module/fuse/parameters/enable_uring");
  char value = 'N';
  file >> value;
  return value == 'Y';
}

std::unique_ptr<Transport> MakeTransport(Loop* loop, Device device,
                                         TransportChoice choice) {
  auto* uring = dynamic_cast<UringLoop*>(loop);
  if (choice != TransportChoice::kDev && uring != nullptr &&
      KernelOffersUring()) {
    auto transport = UringTransport::Create(uring, device, {});
    if (transport != nullptr) return transport;
  }
  return std::make_unique<DevTransport>(loop, std::move(device));
}

}  // namespace bgfs::fuse
