// A file descriptor with one owner, closed when the owner goes.
#ifndef BGFS_FUSE_UNIQUE_FD_H_
#define BGFS_FUSE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace bgfs::fuse {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_UNIQUE_FD_H_
