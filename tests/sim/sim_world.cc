#include "tests/sim/sim_world.h"

#include <poll.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "absl/strings/numbers.h"
#include "graph/async/check.h"
#include "gtest/gtest.h"

extern "C" {
// There under sanitizers only.
// NOLINTNEXTLINE(bugprone-reserved-identifier)
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
}

namespace bgfs {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

uint64_t running_seed = 0;

void PrintSeed() {
  std::fprintf(stderr, "simulation: replay with BGFS_SEED=%llu\n",
               static_cast<unsigned long long>(running_seed));
}

void PrintSeedAndAbort(int) {
  PrintSeed();
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

void PrintSeedAtDeath() {
  static const bool once = [] {
    std::signal(SIGABRT, PrintSeedAndAbort);
    if (__sanitizer_set_death_callback != nullptr) {
      __sanitizer_set_death_callback(PrintSeed);
    }
    return true;
  }();
  (void)once;
}

}  // namespace

int64_t SimLoop::ReadClockNs() { return world_->now_ns_; }
uint64_t SimLoop::Random() { return world_->random_.Next(); }

Task<IoResult<std::unique_ptr<File>>> SimLoop::Open(std::string path,
                                                    OpenOptions options) {
  return world_->disk_.Open(this, std::move(path), options);
}

void SimLoop::StartPoll(int fd, Completion* completion) {
  polls_.push_back({fd, completion});
}

template <typename Predicate>
void SimLoop::EndPolls(Predicate matches, int64_t result) {
  std::erase_if(polls_, [&](const Poll& poll) {
    if (!matches(poll)) return false;
    poll.completion->result = result;
    Schedule(poll.completion->waiter);
    return true;
  });
}

void SimLoop::CancelPoll(Completion* completion) {
  EndPolls([=](const Poll& poll) { return poll.completion == completion; },
           -ECANCELED);
}

void SimLoop::MakeReadable(int fd) {
  EndPolls([=](const Poll& poll) { return poll.fd == fd; }, POLLIN);
}

void SimLoop::StartOffload(Offload, Work work, Completion* completion) {
  world_->After(world_->RandomDelayNs(),
                [this, completion, work = std::move(work)]() mutable {
                  work();
                  work = nullptr;
                  Post([completion] { completion->waiter.resume(); });
                });
}

// The world looks at every loop, but threads it does not know would make runs
// differ.
void SimLoop::Wake() {
  BGFS_CHECK(std::this_thread::get_id() == world_->thread_);
}

void SimLoop::TakeTurn() {
  SetCurrent(this);
  NowNs();  // for RecentNs()
  RunTurn();
  SetCurrent(nullptr);
}

int64_t SimLoop::NextWorkNs() const {
  return has_ready() || has_posts() ? 0 : NextDeadlineNs();
}

SimWorld::SimWorld(uint64_t seed, SimRandom random)
    : seed_(seed), random_(std::move(random)) {
  if (seed != 0) PrintSeedAtDeath();
  running_seed = seed;
  AddLoop("first");
}

SimWorld::~SimWorld() {
  RunUntilIdle();
  if (disk_.in_flight() > 0) Stuck("the world ends under an operation");
  for (const auto& loop : loops_) {
    if (!loop->polls_.empty()) Stuck("the world ends under a poll");
  }
}

SimLoop& SimWorld::AddLoop(std::string name) {
  loops_.push_back(std::make_unique<SimLoop>(this, std::move(name)));
  return *loops_.back();
}

void SimWorld::RunUntil(absl::FunctionRef<bool()> done) {
  BGFS_CHECK(Loop::Current() == nullptr);
  while (!done()) {
    if (!Step()) Stuck("nothing can run, and what is waited for is not done");
  }
}

void SimWorld::RunUntilIdle() {
  BGFS_CHECK(Loop::Current() == nullptr);
  while (Step()) {
  }
}

void SimWorld::After(int64_t delay_ns, absl::AnyInvocable<void()> action) {
  events_.emplace(std::pair(now_ns_ + delay_ns, next_event_++),
                  std::move(action));
}

int64_t SimWorld::RandomDelayNs() {
  return random_.Between(1000, int64_t{1000} << random_.Below(15));
}

bool SimWorld::Step() {
  if (++steps_ > step_limit_) Stuck("the steps have no end");
  int64_t next_ns = events_.empty() ? kNever : events_.begin()->first.first;
  for (const auto& loop : loops_) {
    next_ns = std::min(next_ns, loop->NextWorkNs());
  }
  if (next_ns == kNever) return false;
  now_ns_ = std::max(now_ns_, next_ns);

  std::vector<SimLoop*> choices;
  for (const auto& loop : loops_) {
    if (loop->NextWorkNs() <= now_ns_) choices.push_back(loop.get());
  }
  if (!events_.empty() && events_.begin()->first.first <= now_ns_) {
    choices.push_back(nullptr);
  }
  SimLoop* choice =
      choices[static_cast<size_t>(random_.Below(std::ssize(choices)))];
  if (choice != nullptr) {
    choice->TakeTurn();
    // A turn takes time, in which other things end.
    now_ns_ += random_.Below(random_.Chance(0.5) ? 100 : 50000);
  } else {
    auto event = events_.extract(events_.begin());
    event.mapped()();
  }
  return true;
}

void SimWorld::Stuck(const char* why) const {
  std::fprintf(stderr, "simulation: %s, at %lld ns after %lld steps\n", why,
               static_cast<long long>(now_ns_), static_cast<long long>(steps_));
  for (const auto& loop : loops_) {
    std::fprintf(stderr, "  loop \"%s\": %s\n", loop->name().c_str(),
                 loop->NextWorkNs() == kNever ? "sleeps" : "has work");
    for (const SimLoop::Poll& poll : loop->polls_) {
      std::fprintf(stderr, "    polls descriptor %d\n", poll.fd);
    }
  }
  disk_.PrintInFlight();
  std::abort();
}

void ForEachSeed(int count, absl::FunctionRef<void(uint64_t seed)> body) {
  uint64_t only = 0;
  const char* given = std::getenv("BGFS_SEED");
  if (given != nullptr && absl::SimpleAtoi(given, &only)) {
    body(only);
    return;
  }
  for (int i = 1; i <= count; ++i) {
    const auto seed = static_cast<uint64_t>(i);
    body(seed);
    if (testing::Test::HasFailure()) {
      running_seed = seed;
      PrintSeed();
      return;
    }
  }
}

}  // namespace bgfs
