// A thread of its own for signals, so that their handling may take locks.

#ifndef BGFS_CONFIG_CLI_SIGNALS_H_
#define BGFS_CONFIG_CLI_SIGNALS_H_

#include <functional>
#include <thread>

namespace bgfs::cli {

class SignalThread {
 public:
  // Blocks SIGTERM, SIGINT and SIGHUP in this thread and in all that it starts
  // from now on; `on_signal` is called with each that comes.
  explicit SignalThread(std::function<void(int)> on_signal);
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;
  ~SignalThread();

 private:
  std::thread thread_;
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_SIGNALS_H_
