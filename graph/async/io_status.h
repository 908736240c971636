// The outcome of I/O: success, or an exact errno. absl::Status cannot tell
// EIO, ENOSPC and EDQUOT apart once mapped, and a FUSE client must be told the
// truth, so the I/O path carries errnos; ToStatus() is the one bridge, one way,
// to the control path.

#ifndef BGFS_GRAPH_ASYNC_IO_STATUS_H_
#define BGFS_GRAPH_ASYNC_IO_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/async/check.h"

namespace bgfs {

class [[nodiscard]] IoStatus {
 public:
  constexpr IoStatus() = default;
  // `error` is a positive errno; 0 is success.
  static constexpr IoStatus Errno(int error) {
    IoStatus status;
    status.error_ = error;
    return status;
  }

  constexpr bool ok() const { return error_ == 0; }
  // A positive errno, or 0.
  constexpr int error() const { return error_; }
  // "<context>: <strerror>", with the code that fits the errno best.
  absl::Status ToStatus(absl::string_view context) const;

  friend constexpr bool operator==(IoStatus a, IoStatus b) {
    return a.error_ == b.error_;
  }
  // Ignores the outcome, where nothing can be done about it.
  void Ignore() const {}

 private:
  int error_ = 0;
};

// Short for a failure: `co_return IoError(EIO)`.
constexpr IoStatus IoError(int error) { return IoStatus::Errno(error); }

// A value or an errno. T is cheap to construct by default.
template <typename T>
class [[nodiscard]] IoResult {
 public:
  IoResult(T value) : value_(std::move(value)) {}  // NOLINT
  IoResult(IoStatus status) : status_(status) {    // NOLINT
    BGFS_CHECK(!status.ok());
  }

  bool ok() const { return status_.ok(); }
  int error() const { return status_.error(); }
  IoStatus status() const { return status_; }
  T& operator*() & {
    BGFS_CHECK(ok());
    return value_;
  }
  const T& operator*() const& {
    BGFS_CHECK(ok());
    return value_;
  }
  T&& operator*() && {
    BGFS_CHECK(ok());
    return std::move(value_);
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

 private:
  IoStatus status_;
  T value_{};
};

// Returns from the coroutine with the error when `expression` fails.
#define BGFS_CO_TRY(expression)                                             \
  do {                                                                      \
    if (::bgfs::IoStatus io_try_status = (expression); !io_try_status.ok()) \
      co_return io_try_status;                                              \
  } while (false)

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_IO_STATUS_H_
