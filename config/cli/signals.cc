#include "config/cli/signals.h"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace bgfs::cli {
namespace {

// Ends the thread.
constexpr int kStop = SIGUSR1;

}  // namespace

SignalThread::SignalThread(std::function<void(int)> on_signal) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, kStop}) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = std::thread([signals, told = std::move(on_signal)] {
    int signal = 0;
    while (sigwait(&signals, &signal) == 0 && signal != kStop) told(signal);
  });
}

SignalThread::~SignalThread() {
  pthread_kill(thread_.native_handle(), kStop);
  thread_.join();
}

}  // namespace bgfs::cli
