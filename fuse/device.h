// The /dev/fuse descriptor of a connection, in one handle for all who know it:
// the last one closes it, or whoever serves the connection does before that.
//
// Threads: one serves, that is reads, writes and closes; any may ask whether
// the kernel still has the connection.
#ifndef BGFS_FUSE_DEVICE_H_
#define BGFS_FUSE_DEVICE_H_

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <utility>

#include "fuse/unique_fd.h"

namespace bgfs::fuse {

class Device {
 public:
  Device() = default;
  // `number`: the device number (st_dev) of the mount, 0 if it is not known.
  explicit Device(UniqueFd fd, dev_t number = 0)
      : state_(std::make_shared<State>(std::move(fd))), number_(number) {}

  // The server's.
  int get() const { return state_->fd.get(); }
  // Ends the connection, whoever else has a handle.
  void Close();

  // What ends the connection by a write, also while the kernel has something of
  // ours in hand that keeps the descriptor open: requests under way then get
  // ECONNABORTED. Not valid where fusectl is not mounted, nor once the
  // connection has ended.
  UniqueFd OpenAbort() const;

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
  dev_t number_ = 0;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_DEVICE_H_
