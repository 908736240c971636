// Where the daemon says what happens when nobody waits for it any more.

#ifndef BGFS_CONFIG_CLI_LOGGER_H_
#define BGFS_CONFIG_CLI_LOGGER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace bgfs::cli {

class Logger {
 public:
  // `target`: "stderr", "syslog" or the name of a file, which is appended to.
  static absl::StatusOr<Logger> Open(const std::string& target);

  // Lets stdin and stdout lead to nowhere, and stderr to the file (a failed
  // check is printed there) or, with syslog, to nowhere. After it no terminal
  // and no pipe is held, unless the log is stderr.
  void TakeStdio();

  // One line. Any thread.
  void Write(absl::string_view line) const;

 private:
  Logger() = default;

  bool syslog_ = false;
  int file_ = -1;  // of syslog, /dev/null; -1: stderr
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_LOGGER_H_
