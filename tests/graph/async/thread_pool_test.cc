#include "graph/async/thread_pool.h"

#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "graph/async/notification.h"
#include "gtest/gtest.h"
#include "tests/graph/async/deny.h"

namespace bgfs {
namespace {

using std::chrono::milliseconds;

// A pool lives as long as the process.
ThreadPool& MakePool(int max_threads, milliseconds idle_limit) {
  static auto* pools = new std::vector<std::unique_ptr<ThreadPool>>;
  pools->push_back(
      std::make_unique<ThreadPool>("test", max_threads, idle_limit));
  return *pools->back();
}

// Work that is there until it is let go.
class Held {
 public:
  Held(ThreadPool* pool, int count) : count_(count) {
    for (int i = 0; i < count; ++i) {
      pool->Add([this] {
        if (++running_ == 1) first_.Notify();
        go_.Wait();
        if (++ended_ == count_) all_.Notify();
      });
    }
  }
  ~Held() { all_.Wait(); }
  void WaitForFirst() { first_.Wait(); }
  void LetGo() { go_.Notify(); }
  int running() const { return running_; }

 private:
  const int count_;
  std::atomic<int> running_{0};
  std::atomic<int> ended_{0};
  Notification first_;
  Notification go_;
  Notification all_;
};

TEST(ThreadPool, HasAtMostSoManyThreads) {
  ThreadPool& pool = MakePool(3, std::chrono::hours(1));
  EXPECT_EQ(pool.threads(), 0);
  Held held(&pool, 10);
  held.WaitForFirst();
  EXPECT_EQ(pool.threads(), 3);
  EXPECT_LE(held.running(), 3);
  held.LetGo();
}

TEST(ThreadPool, IdleThreadsEndAllButOne) {
  ThreadPool& pool = MakePool(8, milliseconds(1));
  for (int i = 0; i < 3; ++i) {
    {
      Held held(&pool, 8);
      EXPECT_EQ(pool.threads(), 8);
      held.LetGo();
    }
    while (pool.threads() > 1) std::this_thread::yield();
  }
}

// However long it is idle: here any time is too long.
TEST(ThreadPool, TheLastThreadStays) {
  ThreadPool& pool = MakePool(1, milliseconds(0));
  static thread_local int done_here = 0;
  int done = 0;
  while (done < 1000) {
    const int before = done;
    Notification ended;
    pool.Add([&done, &ended] {
      done = ++done_here;
      ended.Notify();
    });
    ended.Wait();
    ASSERT_EQ(done, before + 1);  // by the thread that did the others
  }
}

TEST(ThreadPool, WaitsWhereNoMoreThreadsAreToBeHad) {
  ThreadPool& pool = MakePool(8, std::chrono::hours(1));
  Held held(&pool, 1);
  held.WaitForFirst();
  std::atomic<bool> ran{false};
  Notification done;
  RunDenied(SYS_clone3, EAGAIN, [&pool, &ran, &done] {
    pool.Add([&ran, &done] {
      ran = true;
      done.Notify();
    });
  });
  EXPECT_EQ(pool.threads(), 1);
  EXPECT_FALSE(ran);
  held.LetGo();
  done.Wait();
}

TEST(ThreadPool, WorksOnTheCallerWhereNotOneThreadIsToBeHad) {
  ThreadPool& pool = MakePool(8, std::chrono::hours(1));
  RunDenied(SYS_clone3, EAGAIN, [&pool] {
    std::thread::id there;
    pool.Add([&there] { there = std::this_thread::get_id(); });
    EXPECT_EQ(there, std::this_thread::get_id());
  });
  EXPECT_EQ(pool.threads(), 0);
}

}  // namespace
}  // namespace bgfs
