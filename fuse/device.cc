#include "fuse/device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/sysmacros.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bgfs::fuse {

void Device::Close() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->fd.Reset();
}

UniqueFd Device::OpenAbort() const {
  if (number_ == 0) return UniqueFd();
  const std::string path =
      absl::StrCat("/sys/fs/fuse/connections/", minor(number_), "/abort");
  UniqueFd abort(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  // The number was ours when the file was opened if it still is.
  return IsConnected() ? std::move(abort) : UniqueFd();
}

bool Device::IsConnected() const {
  if (state_ == nullptr) return false;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (!state_->fd.valid()) return false;
  pollfd asked = {state_->fd.get(), 0, 0};
  return poll(&asked, 1, 0) == 0;
}

}  // namespace bgfs::fuse
