#include "graph/async/task.h"

#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace bgfs {
namespace {

// Sleeps until Open() resumes it, in place.
class Gate {
 public:
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
  }
  void await_resume() noexcept {}
  void Open() { std::exchange(waiter_, {}).resume(); }
  bool waiting() const { return waiter_ != nullptr; }

 private:
  std::coroutine_handle<> waiter_;
};

Task<int64_t> Ready(int64_t value) { co_return value; }

Task<void> SumOfReady(int64_t count, int64_t* sum) {
  for (int64_t i = 0; i < count; ++i) *sum += co_await Ready(i);
}

TEST(Task, AMillionSynchronousCompletionsNeedNoStack) {
  int64_t sum = 0;
  Spawn(SumOfReady(1000000, &sum));
  EXPECT_EQ(sum, int64_t{1000000} * 999999 / 2);
}

Task<void> PassGate(Gate* gate) { co_await *gate; }

Task<void> PassGateOften(Gate* gate, int64_t count, int64_t* passed) {
  for (; *passed < count; ++*passed) co_await PassGate(gate);
}

TEST(Task, AMillionSuspendedCompletionsNeedNoStack) {
  Gate gate;
  int64_t passed = 0;
  Spawn(PassGateOften(&gate, 1000000, &passed));
  while (gate.waiting()) gate.Open();
  EXPECT_EQ(passed, 1000000);
}

// The child is resumed and ends before its start has returned.
struct ResumeInPlace {
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { waiter.resume(); }
  void await_resume() noexcept {}
};

Task<int> ResumedInPlace() {
  co_await ResumeInPlace();
  co_return 7;
}

Task<void> SumOfResumedInPlace(int count, int64_t* sum) {
  for (int i = 0; i < count; ++i) *sum += co_await ResumedInPlace();
}

TEST(Task, MayEndWhileItIsBeingStarted) {
  int64_t sum = 0;
  Spawn(SumOfResumedInPlace(100000, &sum));
  EXPECT_EQ(sum, 700000);
}

Task<int> Nest(int depth, Gate* gate) {
  if (depth == 0) {
    if (gate != nullptr) co_await *gate;
    co_return 0;
  }
  co_return co_await Nest(depth - 1, gate) + 1;
}

Task<void> NestInto(int depth, Gate* gate, int* result) {
  *result = co_await Nest(depth, gate);
}

TEST(Task, NestsDeeply) {
  int result = 0;
  Spawn(NestInto(2000, nullptr, &result));
  EXPECT_EQ(result, 2000);

  Gate gate;
  result = 0;
  Spawn(NestInto(2000, &gate, &result));
  EXPECT_EQ(result, 0);
  gate.Open();
  EXPECT_EQ(result, 2000);
}

Task<std::unique_ptr<std::string>> MakeString() {
  co_return std::make_unique<std::string>("moved");
}

Task<void> TakeString(std::string* out) {
  std::unique_ptr<std::string> value = co_await MakeString();
  *out = *value;
}

TEST(Task, GivesMoveOnlyResults) {
  std::string out;
  Spawn(TakeString(&out));
  EXPECT_EQ(out, "moved");
}

// Appends its name when it is destroyed.
class Tracer {
 public:
  Tracer(std::string name, std::vector<std::string>* log)
      : name_(std::move(name)), log_(log) {}
  Tracer(Tracer&& other) noexcept
      : name_(std::move(other.name_)), log_(std::exchange(other.log_, {})) {}
  ~Tracer() {
    if (log_ != nullptr) log_->push_back(name_);
  }

 private:
  std::string name_;
  std::vector<std::string>* log_;
};

Task<Tracer> Traced(Tracer parameter, std::vector<std::string>* log) {
  Tracer local("local", log);
  co_return Tracer("result", log);
}

Task<void> AwaitTraced(std::vector<std::string>* log) {
  {
    Tracer result = co_await Traced(Tracer("parameter", log), log);
    log->push_back("awaited");
  }
  log->push_back("end");
}

TEST(Task, DestroysEachThingOnceAndInOrder) {
  std::vector<std::string> log;
  Spawn(AwaitTraced(&log));
  EXPECT_EQ(log, (std::vector<std::string>{"local", "parameter", "awaited",
                                           "result", "end"}));
}

TEST(Task, RunsNothingBeforeItIsAwaited) {
  std::vector<std::string> log;
  {
    Task<Tracer> task = Traced(Tracer("parameter", &log), &log);
    EXPECT_TRUE(log.empty());
  }
  EXPECT_EQ(log, (std::vector<std::string>{"parameter"}));
}

Task<void> TraceAcrossGate(Gate* gate, std::vector<std::string>* log) {
  Tracer local("local", log);
  log->push_back("begin");
  co_await *gate;
  log->push_back("end");
}

TEST(Task, SpawnedStartsAtOnceAndFreesItself) {
  std::vector<std::string> log;
  Gate first;
  Gate second;
  Spawn(TraceAcrossGate(&first, &log));
  Spawn(TraceAcrossGate(&second, &log));
  EXPECT_EQ(log, (std::vector<std::string>{"begin", "begin"}));
  second.Open();
  EXPECT_EQ(log.size(), 4);
  first.Open();
  EXPECT_EQ(log, (std::vector<std::string>{"begin", "begin", "end", "local",
                                           "end", "local"}));
}

TEST(TaskDeathTest, DestroyingASuspendedTaskIsABug) {
  EXPECT_DEATH(
      {
        Gate gate;
        Task<void> task = PassGate(&gate);
        auto awaiter = std::move(task).operator co_await();
        awaiter.await_suspend(std::noop_coroutine());
      },
      "bug at .*task.h");
}

}  // namespace
}  // namespace bgfs
