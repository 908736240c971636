#include "config/cli/logger.h"

#include <fcntl.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "config/diagnostic.h"

namespace bgfs::cli {

absl::StatusOr<Logger> Logger::Open(const std::string& target) {
  Logger logger;
  if (target == "stderr") return logger;
  logger.syslog_ = target == "syslog";
  const char* file = logger.syslog_ ? "/dev/null" : target.c_str();
  logger.file_ = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (logger.file_ < 0) {
    return absl::UnavailableError(absl::StrCat("cannot open the log \"", target,
                                               "\": ", std::strerror(errno)));
  }
  if (logger.syslog_) openlog("bgfs", LOG_PID, LOG_DAEMON);
  return logger;
}

void Logger::TakeStdio() {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    close(null);
  }
  if (file_ >= 0) dup2(file_, STDERR_FILENO);
}

void Logger::Write(absl::string_view line) const {
  const std::string text = config::Printable(line, 4096);
  if (syslog_) {
    syslog(LOG_NOTICE, "%s", text.c_str());
    return;
  }
  const std::string stamped =
      absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%E3S ", absl::Now(),
                                    absl::LocalTimeZone()),
                   text, "\n");
  // A log that cannot be written to has nobody to tell.
  const ssize_t written =
      write(file_ >= 0 ? file_ : STDERR_FILENO, stamped.data(), stamped.size());
  static_cast<void>(written);
}

}  // namespace bgfs::cli
