// What a service manager (systemd) is told: sd_notify(3), spoken here because
// it is one datagram of lines "NAME=value" to the socket $NOTIFY_SOCKET.
//
//   STATUS=...   what the daemon does, shown by systemctl status
//   READY=1      the files are usable
//   WATCHDOG=1   every home still turns (watchdog.h)
//   STOPPING=1   it is on its way to its end

#ifndef BGFS_CONFIG_CLI_NOTIFY_H_
#define BGFS_CONFIG_CLI_NOTIFY_H_

#include <chrono>
#include <string>

#include "absl/strings/string_view.h"
#include "fuse/unique_fd.h"

namespace bgfs::cli {

class Notifier {
 public:
  // Tells nobody.
  Notifier() = default;
  // Takes the variables out of the environment: what this process starts must
  // not speak for it. Call it while the process has one thread.
  static Notifier FromEnvironment();

  // Any thread. Waits where the manager is behind.
  void Send(absl::string_view lines) const;
  // Says that it lives. Any thread; never waits.
  void Feed() const;

  // Within how long the manager wants to be fed; 0: never.
  std::chrono::microseconds watchdog() const { return watchdog_; }

 private:
  void SendTo(absl::string_view lines, int flags) const;

  fuse::UniqueFd socket_;
  std::string address_;  // begins with '/' or, for an abstract one, a zero byte
  std::chrono::microseconds watchdog_{0};
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_NOTIFY_H_
