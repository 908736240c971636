// Whoever feeds the service manager's watchdog: all homes together.

#include "config/cli/watchdog.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "graph/async/notification.h"
#include "graph/async/uring_loop.h"

namespace bgfs::cli {
namespace {

constexpr int64_t kPeriodNs = 1'000'000;

class Meals {
 public:
  void Add() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  // Whether that many more come within the time.
  bool Wait(int more, std::chrono::milliseconds limit) {
    std::unique_lock<std::mutex> lock(mutex_);
    const int enough = count_ + more;
    return changed_.wait_for(lock, limit,
                             [this, enough] { return count_ >= enough; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

TEST(Watchdog, IsFedWhileEveryLoopTurns) {
  auto first = UringLoop::Start("first");
  auto second = UringLoop::Start("second");
  ASSERT_TRUE(first.ok() && second.ok());
  Meals meals;
  const Watchdog watchdog({first->get(), second->get()}, kPeriodNs,
                          [&meals] { meals.Add(); });
  EXPECT_TRUE(meals.Wait(10, std::chrono::seconds(30)));

  Notification hangs;
  Notification goes_on;
  (*second)->Post([&] {
    hangs.Notify();
    goes_on.Wait();
  });
  hangs.Wait();
  // The round that was under way may end.
  EXPECT_FALSE(meals.Wait(2, std::chrono::milliseconds(200)));
  goes_on.Notify();
  EXPECT_TRUE(meals.Wait(10, std::chrono::seconds(30)));
}

TEST(Watchdog, EndsBeforeItsLoopsWhateverTheirTimers) {
  auto loop = UringLoop::Start("loop");
  ASSERT_TRUE(loop.ok());
  Meals meals;
  {
    const Watchdog watchdog({loop->get()}, int64_t{3600} * 1'000'000'000,
                            [&meals] { meals.Add(); });
    EXPECT_TRUE(meals.Wait(0, std::chrono::seconds(30)));
  }
  loop->reset();
}

}  // namespace
}  // namespace bgfs::cli
