#include "config/cli/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/numbers.h"

namespace bgfs::cli {
namespace {

std::string TakeVariable(const char* name) {
  const char* value = std::getenv(name);
  std::string taken = value == nullptr ? "" : value;
  unsetenv(name);
  return taken;
}

}  // namespace

Notifier Notifier::FromEnvironment() {
  Notifier notifier;
  std::string address = TakeVariable("NOTIFY_SOCKET");
  const std::string limit = TakeVariable("WATCHDOG_USEC");
  const std::string for_pid = TakeVariable("WATCHDOG_PID");
  if (address.size() < 2 || address.size() > sizeof(sockaddr_un::sun_path) ||
      (address[0] != '/' && address[0] != '@')) {
    return notifier;
  }
  if (address[0] == '@') address[0] = 0;
  notifier.address_ = std::move(address);
  notifier.socket_ =
      fuse::UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  int64_t limit_us = 0;
  int64_t pid = getpid();
  if (absl::SimpleAtoi(limit, &limit_us) && limit_us > 0 &&
      (for_pid.empty() || absl::SimpleAtoi(for_pid, &pid)) && pid == getpid()) {
    notifier.watchdog_ = std::chrono::microseconds(limit_us);
  }
  return notifier;
}

void Notifier::Send(absl::string_view lines) const { SendTo(lines, 0); }

void Notifier::Feed() const { SendTo("WATCHDOG=1", MSG_DONTWAIT); }

void Notifier::SendTo(absl::string_view lines, int flags) const {
  if (!socket_.valid()) return;
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  address_.copy(to.sun_path, sizeof(to.sun_path));
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  // A manager that does not listen has nobody else to tell.
  while (sendto(socket_.get(), lines.data(), lines.size(), MSG_NOSIGNAL | flags,
                reinterpret_cast<const sockaddr*>(&to), length) < 0 &&
         errno == EINTR) {
  }
}

}  // namespace bgfs::cli
