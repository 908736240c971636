// What the bodies on the kernel share, and what each does its own way.

#include "graph/async/host_loop.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/graph/async/test_loop.h"

namespace bgfs {
namespace {

using Log = std::vector<int64_t>;

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(fds_), 0); }
  ~Pipe() {
    close(fds_[0]);
    CloseWriter();
  }
  int reader() const { return fds_[0]; }
  void Put() { EXPECT_EQ(write(fds_[1], "x", 1), 1); }
  void CloseWriter() {
    if (fds_[1] >= 0) close(fds_[1]);
    fds_[1] = -1;
  }

 private:
  int fds_[2] = {-1, -1};
};

Task<void> PollAndLog(int fd, Log* log) {
  log->push_back(co_await Loop::Current()->PollIn(fd));
}

Task<void> PollAPipe(Log* log) {
  Loop* loop = Loop::Current();
  Pipe pipe;
  Spawn(PollAndLog(pipe.reader(), log));
  for (int i = 0; i < 10; ++i) co_await loop->Yield();
  EXPECT_TRUE(log->empty());
  pipe.Put();
  while (log->empty()) co_await loop->Yield();
  EXPECT_EQ(co_await loop->PollIn(pipe.reader()), POLLIN);  // still readable
  pipe.CloseWriter();
  EXPECT_EQ(co_await loop->PollIn(pipe.reader()), POLLIN | POLLHUP);
  EXPECT_EQ(co_await loop->PollIn(-1), -EBADF);
  EXPECT_EQ(co_await loop->PollIn(1 << 20), -EBADF);  // not open either
}

TEST(HostLoop, PollsUntilReadable) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, PollAPipe(&log));
  EXPECT_EQ(log, (Log{POLLIN}));
}

// A poll whose completion others can reach.
struct Poll {
  int fd;
  Completion completion;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    completion.waiter = waiter;
    Loop::Current()->StartPoll(fd, &completion);
  }
  int64_t await_resume() noexcept { return completion.result; }
};

Task<void> AwaitPoll(Poll* poll, Log* log) { log->push_back(co_await *poll); }

Task<void> CancelPolls(Log* log) {
  Loop* loop = Loop::Current();
  Pipe pipe;
  for (int yields = 0; yields < 3; ++yields) {
    Poll poll{pipe.reader(), {}};
    Spawn(AwaitPoll(&poll, log));
    for (int i = 0; i < yields; ++i) co_await loop->Yield();
    loop->CancelPoll(&poll.completion);
    const size_t count = log->size();
    while (log->size() == count) co_await loop->Yield();
  }
}

TEST(HostLoop, CancelledPollsSaySo) {
  auto loop = StartLoop();
  Log log;
  BlockOn(*loop, CancelPolls(&log));
  EXPECT_EQ(log, (Log{-ECANCELED, -ECANCELED, -ECANCELED}));
}

Task<void> PollWith(int fd, int* ended, InFlight::Holder holder) {
  EXPECT_EQ(co_await Loop::Current()->PollIn(fd), POLLIN);
  ++*ended;
}

// On io_uring, more entries in one turn than the submission ring holds, more
// completions at once than the completion ring does.
Task<void> PollOften(int count, int* ended) {
  Pipe pipe;
  InFlight running;
  for (int i = 0; i < count; ++i) {
    Spawn(PollWith(pipe.reader(), ended, running.Hold()));
  }
  pipe.Put();
  co_await running.WaitIdle();
}

TEST(HostLoop, LosesNothingOfAFlood) {
  auto loop = StartLoop();
  int ended = 0;
  BlockOn(*loop, PollOften(20000, &ended));
  EXPECT_EQ(ended, 20000);
}

Task<void> DrawRandom(Log* log) {
  for (int i = 0; i < 3; ++i) {
    log->push_back(static_cast<int64_t>(Loop::Current()->Random()));
  }
  co_return;
}

Task<void> DoNothing() { co_return; }

// Each waits for the other: from some time on, a loop that spins before it
// sleeps does.
Task<void> PlayPingPong(Loop* other, int count) {
  for (int i = 0; i < count; ++i) co_await RunOn(*other, DoNothing());
}

Task<int> ThreadId() { co_return static_cast<int>(syscall(SYS_gettid)); }

bool Sleeps(int thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  return text.at(text.rfind(')') + 2) == 'S';
}

TEST(HostLoop, SleepsOnceNothingComesAnyMore) {
  auto one = StartLoop();
  auto other = StartLoop();
  const int thread = BlockOn(*one, ThreadId());
  for (int i = 0; i < 10; ++i) {
    BlockOn(*one, PlayPingPong(other.get(), 1000));
    while (!Sleeps(thread)) std::this_thread::yield();
  }
}

// A timer that is due ends a wait, spinning or not.
Task<void> PlayAndSleep(Loop* other) {
  Loop* loop = Loop::Current();
  for (int64_t wait_ns = 1; wait_ns < 10'000'000; wait_ns *= 3) {
    co_await PlayPingPong(other, 10);
    const int64_t deadline = loop->NowNs() + wait_ns;
    co_await loop->SleepUntil(deadline);
    EXPECT_GE(loop->NowNs(), deadline);
  }
}

TEST(HostLoop, TimersComeAfterPingPong) {
  auto one = StartLoop();
  auto other = StartLoop();
  BlockOn(*one, PlayAndSleep(other.get()));
}

TEST(HostLoop, RandomNumbersDiffer) {
  Log log;
  for (int i = 0; i < 2; ++i) {
    auto loop = StartLoop();
    BlockOn(*loop, DrawRandom(&log));
  }
  for (size_t i = 0; i < log.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(log[i], log[j]);
  }
}

TEST(HostLoop, StartsAndEndsOften) {
  int ended = 0;
  for (int i = 0; i < 200; ++i) {
    auto loop = StartLoop();
    if (i % 2 == 0) BlockOn(*loop, PollOften(1, &ended));
  }
  EXPECT_EQ(ended, 100);
}

}  // namespace
}  // namespace bgfs
