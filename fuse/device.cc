#include "fuse/device.h"

#include <poll.h>

namespace bgfs::fuse {

void Device::Close() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->fd.Reset();
}

bool Device::IsConnected() const {
  if (state_ == nullptr) return false;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (!state_->fd.valid()) return false;
  pollfd asked = {state_->fd.get(), 0, 0};
  return poll(&asked, 1, 0) == 0;
}

}  // namespace bgfs::fuse
