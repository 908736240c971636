#include "config/cli/startup.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "config/cli/verb.h"
#include "fuse/ring_support.h"

namespace bgfs::cli {
namespace {

// The command's part: its exit status.
int WaitForWord(int word, pid_t daemon) {
  char byte = 0;
  ssize_t length = 0;
  while ((length = read(word, &byte, 1)) < 0 && errno == EINTR) {
  }
  if (length == 1) return kFine;
  int status = 0;
  while (waitpid(daemon, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return WEXITSTATUS(status);
  return Fail(absl::StrCat("the daemon died while it started (signal ",
                           WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                           "); its log may say why"));
}

// Whatever the command was given by its caller (a lock of the shell's, say) is
// not the daemon's to hold. Those of our own are not for others, and marked so.
void CloseInherited() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return;
  std::vector<int> inherited;
  while (const dirent* entry = readdir(folder)) {
    int fd = -1;
    if (absl::SimpleAtoi(entry->d_name, &fd) && fd > STDERR_FILENO &&
        (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) {
      inherited.push_back(fd);
    }
  }
  closedir(folder);
  for (const int fd : inherited) close(fd);
}

// Whether a file may be taken for a pid file: it is empty or holds a number.
bool LooksLikePidFile(int fd) {
  char text[32] = {};
  const ssize_t length = pread(fd, text, sizeof(text), 0);
  int64_t pid = 0;
  return length == 0 ||
         (length > 0 && length < static_cast<ssize_t>(sizeof(text)) &&
          absl::SimpleAtoi(text, &pid));
}

// Prepared for the handler, which may not allocate.
std::string& SlowStartLine() {
  static auto* line = new std::string;
  return *line;
}

void OnSlowStart(int /*signal*/) {
  const int error = errno;
  const std::string& line = SlowStartLine();
  const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  static_cast<void>(written);
  errno = error;
}

}  // namespace

void NoticeSlowStart(const DaemonOptions& options, absl::string_view what) {
  SlowStartLine() = absl::StrCat(
      "bgfs: still waiting after ", options.start_notice_s, " s for ", what,
      ": what it lies on does not answer (a disk that hangs, a frozen file "
      "system, a daemon that is stopped); it goes on by itself once that "
      "does, or interrupt it\n");
  struct sigaction action = {};
  action.sa_handler = OnSlowStart;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  alarm(static_cast<unsigned>(options.start_notice_s));
}

void AddDaemonOptions(CLI::App* app, DaemonOptions* options) {
  app->add_flag("--foreground", options->foreground,
                "Stay in the foreground until the end");
  app->add_option("--log", options->log,
                  "Where to log: a FILE, syslog or stderr")
      ->type_name("FILE|syslog|stderr");
  app->add_option("--pid-file", options->pid_file,
                  "Write the daemon's process id here")
      ->type_name("FILE");
  static const auto* choices = new std::map<std::string, fuse::TransportChoice>{
      {"auto", fuse::TransportChoice::kAuto},
      {"io_uring", fuse::TransportChoice::kUring},
      {"dev", fuse::TransportChoice::kDev}};
  app->add_option_function<std::string>(
         "--transport",
         [options](const std::string& name) {
           options->transport = choices->at(name);
         },
         "How requests are carried: auto takes io_uring where it is to be had "
         "(bgfs doctor), io_uring fails where it is not")
      ->check(CLI::IsMember({"auto", "io_uring", "dev"}))
      ->type_name("HOW");
  app->add_option("--close-limit", options->close_limit_s)
      ->check(CLI::Range(1, 3600))
      ->group("");
  app->add_option("--start-notice", options->start_notice_s)
      ->check(CLI::Range(1, 3600))
      ->group("");
  AddMaskOptions(app, &options->kernel_mask);
}

absl::StatusOr<Startup> Startup::Begin(const DaemonOptions& options) {
  if (options.transport == fuse::TransportChoice::kUring) {
    // Before an image is opened; what the kernel says at INIT comes later.
    if (absl::Status s = fuse::RequireRing(); !s.ok()) return s;
  }
  std::string target = options.log;
  if (target.empty()) target = options.foreground ? "stderr" : "syslog";
  absl::StatusOr<Logger> logger = Logger::Open(target);
  if (!logger.ok()) return logger.status();
  Startup startup(*std::move(logger),
                  options.pid_file.empty() ? "" : Absolute(options.pid_file));
  if (absl::Status s = startup.OpenPidFile(); !s.ok()) return s;
  if (options.foreground) {
    startup.notifier_ = Notifier::FromEnvironment();
  } else if (absl::Status s = startup.Fork(); !s.ok()) {
    return s;
  }
  umask(077);
  if (chdir("/") != 0) {
    return absl::UnavailableError("cannot change to the root folder");
  }
  return startup;
}

Startup::Startup(Startup&& other) noexcept
    : logger_(other.logger_),
      notifier_(std::move(other.notifier_)),
      pid_file_(std::move(other.pid_file_)),
      pid_fd_(std::exchange(other.pid_fd_, -1)),
      pid_written_(other.pid_written_),
      word_(std::exchange(other.word_, -1)) {}

Startup::~Startup() {
  if (word_ >= 0) close(word_);
  RemovePidFile();
}

void Startup::RemovePidFile() {
  if (pid_fd_ < 0) return;
  struct stat info = {};
  // One that was there, and that we have not written, stays.
  if (fstat(pid_fd_, &info) != 0 || info.st_size == 0 || pid_written_) {
    unlink(pid_file_.c_str());
  }
  close(std::exchange(pid_fd_, -1));
}

absl::Status Startup::OpenPidFile() {
  if (pid_file_.empty()) return absl::OkStatus();
  pid_fd_ = open(pid_file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (pid_fd_ < 0) {
    return absl::UnavailableError(absl::StrCat("cannot write the pid file \"",
                                               pid_file_,
                                               "\": ", std::strerror(errno)));
  }
  if (!LooksLikePidFile(pid_fd_)) {
    close(std::exchange(pid_fd_, -1));
    return absl::FailedPreconditionError(
        absl::StrCat("pid file \"", pid_file_,
                     "\" holds something that is no process id; choose "
                     "another name"));
  }
  if (flock(pid_fd_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  close(std::exchange(pid_fd_, -1));
  return absl::FailedPreconditionError(absl::StrCat(
      "pid file \"", pid_file_, "\" is a running daemon's; choose another"));
}

absl::Status Startup::Fork() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot make a pipe: ", std::strerror(errno)));
  }
  const pid_t command = getpid();
  const pid_t daemon = fork();
  if (daemon < 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot fork: ", std::strerror(errno)));
  }
  if (daemon > 0) {
    close(ends[1]);
    // Nothing here is the command's to clean up: the daemon has it all.
    std::_Exit(WaitForWord(ends[0], daemon));
  }
  close(ends[0]);
  word_ = ends[1];
  CloseInherited();
  setsid();
  // Until it is ready the daemon ends with the command (control-C).
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != command) std::_Exit(kFailed);
  return absl::OkStatus();
}

void Startup::Ready() {
  alarm(0);  // In the foreground it is ours.
  if (pid_fd_ >= 0) {
    const std::string pid = absl::StrCat(getpid(), "\n");
    pid_written_ = true;
    if (ftruncate(pid_fd_, 0) != 0 ||
        write(pid_fd_, pid.data(), pid.size()) < 0) {
      logger_.Write(absl::StrCat("cannot write the pid file \"", pid_file_,
                                 "\": ", std::strerror(errno)));
    }
  }
  if (word_ < 0) return;  // In the foreground.
  prctl(PR_SET_PDEATHSIG, 0);
  logger_.TakeStdio();
  const char byte = 1;
  const ssize_t written = write(word_, &byte, 1);
  static_cast<void>(written);
  close(std::exchange(word_, -1));
}

}  // namespace bgfs::cli
