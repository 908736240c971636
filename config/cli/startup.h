// How a command becomes a daemon:
//
//   command ──fork──▶ daemon: opens, mounts ──Ready()──▶ lets go of the
//   terminal
//      │                                          │
//      └── waits ◀────────── one byte ────────────┘ exits 0: the files are
//      usable
//
// Until it is ready the daemon shares the command's stderr and prints its own
// errors there; a daemon that ends without the byte passes its exit status on.

#ifndef BGFS_CONFIG_CLI_STARTUP_H_
#define BGFS_CONFIG_CLI_STARTUP_H_

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/cli/logger.h"
#include "config/cli/notify.h"
#include "fuse/make_transport.h"
#include "fuse/negotiate.h"

namespace bgfs::cli {

struct DaemonOptions {
  bool foreground = false;
  std::string log;       // as for Logger; empty: syslog, or stderr
  std::string pid_file;  // empty: none
  fuse::TransportChoice transport = fuse::TransportChoice::kAuto;
  // Hidden: how long ending may take once force was asked.
  int close_limit_s = 10;
  int start_notice_s = 10;       // when to say that starting takes long
  fuse::KernelMask kernel_mask;  // hidden (AddMaskOptions)
};

void AddDaemonOptions(CLI::App* app, DaemonOptions* options);

// Says, once, on stderr that starting takes long, and goes on waiting: an image
// or a mount point may lie where nobody answers, and then whoever waits should
// know for what. From now until the process ends, or Startup is ready. Once.
void NoticeSlowStart(const DaemonOptions& options, absl::string_view what);

class Startup {
 public:
  // Opens log and pid file, and forks unless in the foreground; the daemon
  // returns, the command exits. Call it before any thread is started; paths
  // must be absolute afterwards.
  static absl::StatusOr<Startup> Begin(const DaemonOptions& options);
  Startup(Startup&& other) noexcept;
  Startup& operator=(Startup&&) = delete;
  ~Startup();  // removes the pid file

  // The files are usable.
  void Ready();
  void RemovePidFile();

  const Logger& log() const { return logger_; }
  // Of a daemon in the foreground: only that is the process that a service
  // manager has started.
  const Notifier& notifier() const { return notifier_; }

 private:
  Startup(Logger logger, std::string pid_file)
      : logger_(logger), pid_file_(std::move(pid_file)) {}

  absl::Status OpenPidFile();
  absl::Status Fork();

  Logger logger_;
  Notifier notifier_;
  std::string pid_file_;  // absolute
  int pid_fd_ = -1;
  bool pid_written_ = false;
  int word_ = -1;  // the daemon's end of the pipe
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_STARTUP_H_
