#include "config/cli/watchdog.h"

#include <coroutine>
#include <mutex>
#include <utility>

namespace bgfs::cli {

struct Watchdog::Round {
  // Used on its loop alone, but for `beaten`.
  struct Beat {
    Loop* loop = nullptr;
    bool stopped = false;
    bool beaten = false;  // in this round; with mutex held
    Completion timer;
  };

  struct Period {
    Beat* beat;
    int64_t period_ns;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      beat->timer.waiter = waiter;
      beat->loop->StartTimer(beat->loop->NowNs() + period_ns, &beat->timer);
    }
    void await_resume() noexcept {}
  };

  static Task<void> Run(std::shared_ptr<Round> round, Beat* beat) {
    while (!beat->stopped) {
      round->Tell(beat);
      co_await Period{beat, round->period_ns};
    }
  }

  void Tell(Beat* beat) {
    const std::lock_guard<std::mutex> lock(mutex);
    beat->beaten = true;
    for (const Beat& other : beats) {
      if (!other.beaten) return;
    }
    for (Beat& other : beats) other.beaten = false;
    feed();
  }

  int64_t period_ns = 0;
  std::function<void()> feed;
  std::vector<Beat> beats;
  std::mutex mutex;
};

Watchdog::Watchdog(const std::vector<Loop*>& loops, int64_t period_ns,
                   std::function<void()> feed)
    : round_(std::make_shared<Round>()) {
  round_->period_ns = period_ns;
  round_->feed = std::move(feed);
  round_->beats = std::vector<Round::Beat>(loops.size());
  for (size_t i = 0; i < loops.size(); ++i) round_->beats[i].loop = loops[i];
  for (Round::Beat& beat : round_->beats) {
    beat.loop->Post(
        [round = round_, &beat] { Spawn(Round::Run(round, &beat)); });
  }
}

Watchdog::~Watchdog() {
  for (Round::Beat& beat : round_->beats) {
    beat.loop->Post([round = round_, &beat] {
      beat.stopped = true;
      beat.loop->CancelTimer(&beat.timer);
    });
  }
}

}  // namespace bgfs::cli
