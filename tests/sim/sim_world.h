// SimWorld: the operating system of the tests. Loops, time, chance, files and
// the hand-over between threads, all from one seed, all on the one thread of
// the test:
//
//   ForEachSeed(200, [](uint64_t seed) {
//     SimWorld world(seed);
//     world.disk().Create("disk.img", content);
//     SimLoop& home = world.AddLoop("home");
//     EXPECT_TRUE(world.Run(home, Workload(...)).ok());
//   });
//
// The scheduler picks, by the seed, which loop takes its next turn and which
// file operation ends (sim_disk.h). Time is virtual: it creeps while tasks run
// and jumps when all of them wait. Posts between loops, timers and offloaded
// work behave as on the real loop; descriptors are numbers that the test makes
// readable.
//
// The same seed gives the same run. A failing test prints it, and the
// environment variable BGFS_SEED replays it. When nothing can run and what the
// test waits for has not happened, or the steps have no end, the world prints
// what is in flight and aborts.

#ifndef BGFS_TESTS_SIM_SIM_WORLD_H_
#define BGFS_TESTS_SIM_SIM_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "graph/async/loop.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_random.h"

namespace bgfs {

class SimWorld;

class SimLoop final : public Loop {
 public:
  SimLoop(SimWorld* world, std::string name)
      : world_(world), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  // Completes what polls `fd`.
  void MakeReadable(int fd);

  uint64_t Random() override;
  Task<IoResult<std::unique_ptr<File>>> Open(std::string path,
                                             OpenOptions options) override;
  void StartPoll(int fd, Completion* completion) override;
  void CancelPoll(Completion* completion) override;
  void StartOffload(Offload kind, Work work, Completion* completion) override;

 private:
  friend class SimWorld;

  struct Poll {
    int fd;
    Completion* completion;
  };

  void Wake() override;
  int64_t ReadClockNs() override;
  void TakeTurn();
  int64_t NextWorkNs() const;
  template <typename Predicate>
  void EndPolls(Predicate matches, int64_t result);

  SimWorld* const world_;
  const std::string name_;
  std::vector<Poll> polls_;
};

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed) : SimWorld(seed, SimRandom(seed)) {}
  // A world in which `random` decides. A seed of 0 is none: nothing is printed
  // when the process dies, and a fuzzer's own handlers stay.
  SimWorld(uint64_t seed, SimRandom random);
  // Runs until nothing is left to do. An operation still in flight (hanging, or
  // a poll) is a bug.
  ~SimWorld();
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  uint64_t seed() const { return seed_; }
  SimRandom& random() { return random_; }
  SimDisk& disk() { return disk_; }
  int64_t now_ns() const { return now_ns_; }

  // The world's first loop, and more of them.
  SimLoop& loop() { return *loops_.front(); }
  SimLoop& AddLoop(std::string name);

  // Runs the world until `task`, on `loop` (the first one), has ended. From the
  // test's thread only, as BlockOn().
  template <typename T>
  T Run(SimLoop& loop, Task<T> task);
  template <typename T>
  T Run(Task<T> task) {
    return Run(loop(), std::move(task));
  }
  // Runs the world until `done` (seen between steps), or until nothing is left
  // to do but what hangs.
  void RunUntil(absl::FunctionRef<bool()> done);
  void RunUntilIdle();

  // Aborts after so many steps in all (50 million by default).
  void LimitSteps(int64_t limit) { step_limit_ = limit; }

  // Runs `action` outside every loop, `delay_ns` from now.
  void After(int64_t delay_ns, absl::AnyInvocable<void()> action);
  // How long an operation may take: 1 us to 16 ms, short ones more often.
  int64_t RandomDelayNs();

 private:
  friend class SimLoop;

  // False if there is nothing to do.
  bool Step();
  [[noreturn]] void Stuck(const char* why) const;

  const uint64_t seed_;
  SimRandom random_;
  int64_t now_ns_ = 1000000000;
  int64_t steps_ = 0;
  // Far more than any test needs: tasks that wait for each other by yielding.
  int64_t step_limit_ = 50000000;
  // By time and order of arrival.
  std::map<std::pair<int64_t, int64_t>, absl::AnyInvocable<void()>> events_;
  int64_t next_event_ = 0;
  const std::thread::id thread_ = std::this_thread::get_id();
  std::vector<std::unique_ptr<SimLoop>> loops_;
  SimDisk disk_{this};
};

// Runs `body` with seeds 1, 2, … `count` until one fails, or with BGFS_SEED
// alone.
void ForEachSeed(int count, absl::FunctionRef<void(uint64_t seed)> body);

template <typename T>
T SimWorld::Run(SimLoop& loop, Task<T> task) {
  struct Runner {
    static Task<void> Into(Task<T> task, internal::ResultSlot<T>* slot,
                           bool* done) {
      co_await internal::RunInto(std::move(task), slot);
      *done = true;
    }
  };
  internal::ResultSlot<T> slot;
  bool done = false;
  loop.Post([&task, &slot, &done] {
    Spawn(Runner::Into(std::move(task), &slot, &done));
  });
  RunUntil([&done] { return done; });
  return slot.Take();
}

}  // namespace bgfs

#endif  // BGFS_TESTS_SIM_SIM_WORLD_H_
