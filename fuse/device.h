// The /dev/fuse descriptor of a connection, in one handle for all who know it:
// the last one closes it, or whoever serves the connection does before that.
//
// Threads: one serves, that is reads, writes and closes; any may ask whether
// the kernel still has the connection.
#ifndef BGFS_FUSE_DEVICE_H_
#define BGFS_FUSE_DEVICE_H_

#include <memory>
#include <mutex>
#include <utility>

#include "fuse/unique_fd.h"

namespace bgfs::fuse {

class Device {
 public:
  Device() = default;
  explicit Device(UniqueFd fd)
      : state_(std::make_shared<State>(std::move(fd))) {}

  // The server's.
  int get() const { return state_->fd.get(); }
  // Ends the connection, whoever else has a handle.
  void Close();

  // False once the last mount of the connection is gone, in every namespace:
  // the kernel takes the connection down before it gives the mount's device
  // number (st_dev) away. False as well once it is closed.
  bool IsConnected() const;

 private:
  struct State {
    explicit State(UniqueFd device) : fd(std::move(device)) {}

    std::mutex mutex;  // between Close() and IsConnected()
    UniqueFd fd;
  };

  std::shared_ptr<State> state_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_DEVICE_H_
