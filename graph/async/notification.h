// One thread tells another, once, that something has happened. Built on the
// standard mutex because thread sanitizer cannot see into the packaged Abseil,
// which is built without it: absl::Mutex and absl::Notification look like races
// there. Everything below the loops uses the standard ones.

#ifndef BGFS_GRAPH_ASYNC_NOTIFICATION_H_
#define BGFS_GRAPH_ASYNC_NOTIFICATION_H_

#include <condition_variable>
#include <mutex>

namespace bgfs {

// May be destroyed as soon as Wait() has returned.
class Notification {
 public:
  void Notify() {
    const std::lock_guard lock(mutex_);
    notified_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return notified_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool notified_ = false;  // guarded by mutex_
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_NOTIFICATION_H_
