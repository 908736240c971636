#include "drivers/throttle.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "google/protobuf/text_format.h"
#include "graph/async/make_loop.h"
#include "tests/drivers/filter_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Rate = ThrottleLimits::Rate;

constexpr int64_t kDiskBytes = 1 << 20;

// user ─▶ throttle ─file─▶ disk
struct House {
  TestDriver* disk = nullptr;
  ThrottleDriver* throttle = nullptr;
  Backend* user = nullptr;
};

Task<House> Build(TestGraph* graph, std::shared_ptr<ThrottleGroup> group) {
  House house;
  house.disk = &graph->Add("disk", kDiskBytes, Unmapping());
  house.throttle = co_await AddFilter(
      graph, "throttle", std::make_unique<ThrottleDriver>(std::move(group)),
      house.disk);
  house.user = &graph->Open(*house.throttle);
  co_return house;
}

Task<House> Build(TestGraph* graph, const ThrottleLimits& limits) {
  return Build(graph, std::make_shared<ThrottleGroup>(limits));
}

StartedIo StartWrites(Backend* user, int count, int64_t bytes = 512) {
  StartedIo started;
  for (int i = 0; i < count; ++i) {
    started.push_back(Start(WriteBytes(user, i * bytes % 65536, bytes)));
  }
  return started;
}

// What a task takes, in virtual seconds.
Task<double> Seconds(Task<IoStatus> task) {
  const int64_t begin = Loop::Current()->NowNs();
  EXPECT_IO_OK(co_await std::move(task));
  co_return static_cast<double>(Loop::Current()->NowNs() - begin) / 1e9;
}

// A little later than exact: turns of the simulated loop take time.
#define EXPECT_TOOK(seconds, expected)  \
  do {                                  \
    const double took = (seconds);      \
    EXPECT_GE(took, (expected) - 1e-6); \
    EXPECT_LE(took, (expected) + 0.02); \
  } while (false)

// --- Rates and bursts --------------------------------------------------------

ENGINE_TEST(Throttle, WithoutLimitsNothingWaits) {
  const House house = co_await Build(graph, ThrottleLimits());
  const int64_t begin = Loop::Current()->NowNs();
  const StartedIo writes = StartWrites(house.user, 1000);
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 1000);
  EXPECT_LT(Loop::Current()->NowNs() - begin, 10 * kMsNs);
}

// Level 0 to 10 lets one more pass each; then one leaks away every 10 ms.
ENGINE_TEST(Throttle, ATenthOfASecondPassesAtOnceAndThenTheRate) {
  const House house = co_await Build(graph, {.iops_total = {100, 0, 1}});
  const int64_t begin = Loop::Current()->NowNs();
  const StartedIo writes = StartWrites(house.user, 61);
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 11);
  co_await WaitAll(writes);
  EXPECT_TOOK(static_cast<double>(Loop::Current()->NowNs() - begin) / 1e9, 0.5);
}

ENGINE_TEST(Throttle, ABurstIsWhatIsConfigured) {
  const House house = co_await Build(graph, {.iops_write = {10, 20, 1}});
  const StartedIo writes = StartWrites(house.user, 60);
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 21);
  co_await SleepNs(kSecondNs + 10 * kMsNs);
  EXPECT_EQ(CountDone(writes), 31);
  co_await WaitAll(writes);
  // What is not used for long is there again, and no more.
  co_await SleepNs(100 * kSecondNs);
  const StartedIo again = StartWrites(house.user, 60);
  co_await Settle();
  EXPECT_EQ(CountDone(again), 21);
  co_await WaitAll(again);
}

// For five seconds a hundred a second, then ten.
ENGINE_TEST(Throttle, ALongBurstHasARateOfItsOwn) {
  const House house = co_await Build(graph, {.iops_write = {10, 100, 5}});
  const StartedIo writes = StartWrites(house.user, 700);
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 11);
  co_await SleepNs(2 * kSecondNs);
  EXPECT_NEAR(CountDone(writes), 211, 2);
  co_await SleepNs(4 * kSecondNs);  // 500 and what has leaked meanwhile
  const int burst = CountDone(writes);
  EXPECT_NEAR(burst, 561, 3);
  co_await SleepNs(3 * kSecondNs);
  EXPECT_NEAR(CountDone(writes), burst + 30, 1);
  co_await WaitAll(writes);
}

ENGINE_TEST(Throttle, BytesCount) {
  const House house = co_await Build(graph, {.bps_total = {100000, 0, 1}});
  const StartedIo writes = StartWrites(house.user, 21, 5000);
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 3);  // 10000 may be exceeded by one
  const int64_t begin = Loop::Current()->NowNs();
  co_await WaitAll(writes);
  EXPECT_NEAR(static_cast<double>(Loop::Current()->NowNs() - begin) / 1e9, 0.9,
              0.02);
}

ENGINE_TEST(Throttle, WhatIsTooLargePassesAndIsADebt) {
  const House house = co_await Build(graph, {.bps_write = {1000, 0, 1}});
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 5000)), 0.0);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 4.9);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 100000)), 0.001);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 100.0);
}

ENGINE_TEST(Throttle, LargeRequestsMayCountAsSeveral) {
  const House house =
      co_await Build(graph, {.iops_total = {10, 10, 1}, .iops_size = 4096});
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, int64_t{30} * 4096)),
              0.0);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 2.0);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 0.1);
}

// --- What counts -------------------------------------------------------------

ENGINE_TEST(Throttle, ReadsAndWritesHaveLimitsOfTheirOwn) {
  const House house = co_await Build(
      graph, {.bps_read = {1000, 0, 1}, .bps_write = {10000, 0, 1}});
  EXPECT_IO_OK(co_await ReadAway(house.user, 0, 5000));
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 5000));
  auto read = Start(Seconds(ReadAway(house.user, 0, 1)));
  auto write = Start(Seconds(WriteBytes(house.user, 0, 1)));
  EXPECT_TOOK(co_await write->Wait(), 0.4);
  EXPECT_FALSE(read->done());
  EXPECT_TOOK(co_await read->Wait(), 4.9);
}

ENGINE_TEST(Throttle, OrOneTogether) {
  const House house = co_await Build(graph, {.bps_total = {1000, 0, 1}});
  EXPECT_IO_OK(co_await ReadAway(house.user, 0, 2000));
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1000)), 1.9);
  EXPECT_TOOK(co_await Seconds(ReadAway(house.user, 0, 1)), 1.0);
}

ENGINE_TEST(Throttle, ZerosAndDiscardsAreWrites) {
  const House house = co_await Build(
      graph, {.iops_read = {1, 1, 1}, .bps_write = {1000, 0, 1}});
  EXPECT_TOOK(co_await Seconds(house.user->Zero(0, 4096)), 0.0);
  EXPECT_TOOK(co_await Seconds(house.user->Discard(0, 2048)), 3.996);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 2.048);
  EXPECT_EQ(house.disk->count(Op::kZero), 1);
  EXPECT_EQ(house.disk->count(Op::kDiscard), 1);
}

ENGINE_TEST(Throttle, FlushesAndSizesDoNotWait) {
  const House house = co_await Build(graph, {.iops_total = {1, 0, 1}});
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 1));
  auto write = Start(WriteBytes(house.user, 0, 1));
  co_await Settle();
  EXPECT_TOOK(co_await Seconds(house.user->Flush()), 0.0);
  EXPECT_TOOK(co_await Seconds(house.user->Truncate(2 * kDiskBytes, true)),
              0.0);
  EXPECT_EQ(house.user->size(), 2 * kDiskBytes);
  EXPECT_FALSE(write->done());
  EXPECT_IO_OK(co_await write->Wait());
}

// --- Order -------------------------------------------------------------------

ENGINE_TEST(Throttle, WhoCameFirstGoesFirst) {
  const House house = co_await Build(graph, {.bps_total = {1000, 0, 1}});
  StartedIo started;
  std::vector<TestDriver::Call> expected;
  for (const int64_t bytes : {3000, 1, 700, 2, 1500, 3, 1, 1}) {
    const int64_t offset = std::ssize(started) * 4096;
    started.push_back(Start(WriteBytes(house.user, offset, bytes)));
    expected.push_back({Op::kWrite, offset, bytes});
  }
  co_await SleepNs(3 * kSecondNs);
  // One that comes while others wait.
  started.push_back(Start(WriteBytes(house.user, 65536, 1)));
  expected.push_back({Op::kWrite, 65536, 1});
  co_await WaitAll(started);
  EXPECT_EQ(house.disk->calls, expected);
}

// --- Drains ------------------------------------------------------------------

Task<bool> Begin(Drain* drain) {
  co_await drain->Begin();
  co_return true;
}

ENGINE_TEST(Throttle, ADrainLetsAllGo) {
  const House house = co_await Build(graph, {.iops_total = {1, 0, 1}});
  StartedIo started = StartWrites(house.user, 100);
  started.push_back(Start(ReadAway(house.user, 0, 512)));
  co_await Settle();
  EXPECT_EQ(CountDone(started), 1);
  const int64_t begin = Loop::Current()->NowNs();
  Drain drain({house.disk->node().parents().front()->parent()});
  auto begun = Start(Begin(&drain));
  co_await Settle();
  EXPECT_TRUE(begun->done());
  EXPECT_EQ(CountDone(started), 101);
  EXPECT_LT(Loop::Current()->NowNs() - begin, 50 * kMsNs);
  std::vector<TestDriver::Call> writes;
  for (const TestDriver::Call& call : house.disk->calls) {
    if (call.op == Op::kWrite) writes.push_back(call);
  }
  EXPECT_TRUE(std::is_sorted(
      writes.begin(), writes.end(),
      [](const auto& a, const auto& b) { return a.offset < b.offset; }));
  drain.End();
}

ENGINE_TEST(Throttle, InsideADrainNothingWaitsAndAllCounts) {
  const House house = co_await Build(graph, {.iops_total = {10, 0, 1}});
  Drain outer({&house.throttle->node()});
  Drain inner({&house.throttle->node()});
  co_await outer.Begin();
  co_await inner.Begin();
  inner.End();
  std::string data = Fill('w', 512);
  const int64_t begin = Loop::Current()->NowNs();
  for (int i = 0; i < 50; ++i) {
    EXPECT_IO_OK(co_await house.user->root().Write(nullptr, 0, View(data)));
  }
  EXPECT_LT(Loop::Current()->NowNs() - begin, 50 * kMsNs);
  outer.End();
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 4.9);
}

// What is closed need not wait for its limits.
ENGINE_TEST(Throttle, ClosingLetsAllGo) {
  const House house = co_await Build(graph, {.iops_total = {1, 0, 1}});
  const StartedIo started = StartWrites(house.user, 100);
  const int64_t begin = Loop::Current()->NowNs();
  graph->graph().LetGo();
  co_await Settle();
  EXPECT_EQ(CountDone(started), 100);
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 1));
  co_await graph->Close();
  EXPECT_LT(Loop::Current()->NowNs() - begin, 50 * kMsNs);
}

// --- Limits that change ------------------------------------------------------

ENGINE_TEST(Throttle, NewLimitsHoldForWhatWaits) {
  const House house = co_await Build(graph, {.bps_write = {1, 0, 1}});
  ThrottleGroup& group = house.throttle->group();
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 100000));
  const StartedIo writes = StartWrites(house.user, 31, 1000);
  co_await SleepNs(10 * kSecondNs);
  EXPECT_EQ(CountDone(writes), 0);
  // As though nothing had passed: two at once, then one every tenth of a
  // second.
  group.SetLimits({.bps_write = {10000, 0, 1}});
  const int64_t begin = Loop::Current()->NowNs();
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 2);
  co_await SleepNs(kSecondNs);
  EXPECT_NEAR(CountDone(writes), 12, 1);
  // The same again changes nothing.
  group.SetLimits({.bps_write = {10000, 0, 1}});
  co_await WaitAll(writes);
  EXPECT_NEAR(static_cast<double>(Loop::Current()->NowNs() - begin) / 1e9, 2.9,
              0.05);
}

ENGINE_TEST(Throttle, LimitsMayGoAndCome) {
  const House house = co_await Build(graph, {.iops_write = {1, 0, 1}});
  ThrottleGroup& group = house.throttle->group();
  const StartedIo writes = StartWrites(house.user, 50);
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 1);
  group.SetLimits({});
  co_await Settle();
  co_await Settle();
  EXPECT_EQ(CountDone(writes), 50);
  EXPECT_EQ(group.limits(), ThrottleLimits());
  group.SetLimits({.iops_write = {1, 0, 1}});
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 0.0);
  EXPECT_TOOK(co_await Seconds(WriteBytes(house.user, 0, 1)), 0.9);
}

// --- Groups ------------------------------------------------------------------

// One of several nodes, on a loop of its own.
struct Member {
  Member(SimLoop* loop, std::shared_ptr<ThrottleGroup> limiter)
      : home(loop), graph(loop), group(std::move(limiter)) {}
  SimLoop* home;
  TestGraph graph;
  std::shared_ptr<ThrottleGroup> group;
  House house;
  std::vector<int64_t> passed_ns;
};

Task<void> BuildMember(Member* member) {
  member->house = co_await Build(&member->graph, member->group);
}

Task<IoStatus> WriteAndNote(Member* member, int64_t bytes) {
  const IoStatus status = co_await WriteBytes(member->house.user, 0, bytes);
  member->passed_ns.push_back(Loop::Current()->NowNs());
  co_return status;
}

Task<void> WriteMany(Member* member, int count, int64_t bytes) {
  StartedIo started;
  for (int i = 0; i < count; ++i) {
    started.push_back(Start(WriteAndNote(member, bytes)));
  }
  co_await WaitAll(started);
}

Task<void> CloseMember(Member* member) { return member->graph.Close(); }

TEST(ThrottleGroup, IsKeptByAllTogetherAndFairly) {
  ForEachSeed(20, [](uint64_t seed) {
    SimWorld world(seed);
    auto group = std::make_shared<ThrottleGroup>(
        ThrottleLimits{.iops_total = {10, 10, 1}});
    Member busy(&world.AddLoop("busy"), group);
    Member calm(&world.AddLoop("calm"), group);
    for (Member* member : {&busy, &calm}) {
      world.Run(*member->home, BuildMember(member));
    }
    const int64_t begin = world.now_ns();
    busy.home->Post([&busy] { Spawn(WriteMany(&busy, 200, 4096)); });
    calm.home->Post([&calm] { Spawn(WriteMany(&calm, 30, 512)); });
    world.RunUntilIdle();
    ASSERT_EQ(busy.passed_ns.size(), 200u);
    ASSERT_EQ(calm.passed_ns.size(), 30u);
    // 11 at once, then ten a second, of both together.
    EXPECT_NEAR(static_cast<double>(busy.passed_ns.back() - begin) / 1e9, 21.9,
                0.2);
    // They take turns, after what one may have taken at once.
    EXPECT_LE(static_cast<double>(calm.passed_ns.back() - begin) / 1e9, 6.3);
    EXPECT_GE(static_cast<double>(calm.passed_ns.back() - begin) / 1e9, 3.7);
    for (Member* member : {&busy, &calm}) {
      world.Run(*member->home, CloseMember(member));
    }
  });
}

// Whatever comes when: in no time passes more than a burst, the rate, and one
// request of each node.
TEST(ThrottleGroup, IsNeverExceeded) {
  ForEachSeed(20, [](uint64_t seed) {
    SimWorld world(seed);
    SimRandom random(seed);
    const Rate iops{random.Between(5, 200), 0, 1};
    const Rate bps{random.Between(5000, 200000), 0, 1};
    auto group = std::make_shared<ThrottleGroup>(
        ThrottleLimits{.iops_write = iops, .bps_total = bps});
    std::deque<Member> members;
    for (int i = 0; i < 3; ++i) {
      members.emplace_back(&world.AddLoop(absl::StrCat("m", i)), group);
      world.Run(*members.back().home, BuildMember(&members.back()));
    }
    constexpr int64_t kBytes = 1000;
    for (int i = 0; i < 60; ++i) {
      Member* member = &members[static_cast<size_t>(random.Below(3))];
      world.After(random.Below(5 * kSecondNs), [member] {
        member->home->Post([member] { Spawn(WriteMany(member, 5, kBytes)); });
      });
    }
    world.RunUntilIdle();
    std::vector<int64_t> passed;
    for (Member& member : members) {
      passed.insert(passed.end(), member.passed_ns.begin(),
                    member.passed_ns.end());
      world.Run(*member.home, CloseMember(&member));
    }
    ASSERT_EQ(passed.size(), 300u);
    std::sort(passed.begin(), passed.end());
    for (size_t i = 0; i < passed.size(); ++i) {
      for (size_t j = i; j < passed.size(); ++j) {
        const double time = static_cast<double>(passed[j] - passed[i]) / 1e9;
        const auto count = static_cast<double>(j - i + 1);
        const double late = 0.01;
        EXPECT_LE(count,
                  static_cast<double>(iops.average) * (0.1 + time + late) + 4);
        EXPECT_LE(count * kBytes,
                  static_cast<double>(bps.average) * (0.1 + time + late) +
                      4 * kBytes);
      }
    }
  });
}

// On threads of their own, while somebody changes the limits all the time.
TEST(ThrottleGroup, IsUsedFromManyThreads) {
  constexpr int kThreads = 3;
  auto group = std::make_shared<ThrottleGroup>(
      ThrottleLimits{.iops_total = {100000, 0, 1}});
  std::vector<std::unique_ptr<HostLoop>> loops;
  std::vector<std::unique_ptr<ThrottleMember>> members;
  for (int i = 0; i < kThreads; ++i) {
    auto loop = MakeLoop("throttle");
    ASSERT_TRUE(loop.ok()) << loop.status();
    loops.push_back(*std::move(loop));
    members.push_back(std::make_unique<ThrottleMember>(group));
  }
  struct Use {
    static Task<void> Many(ThrottleMember* member) {
      for (int i = 0; i < 2000; ++i) {
        const auto direction =
            i % 2 == 0 ? ThrottleDirection::kRead : ThrottleDirection::kWrite;
        if (member->TryPass(direction, 1)) continue;
        co_await member->Wait(direction, 1);
      }
    }
    // At its home, where the group may yet call it.
    static Task<void> End(std::unique_ptr<ThrottleMember>* member) {
      member->reset();
      co_return;
    }
  };
  std::vector<std::thread> users;
  users.reserve(kThreads);
  for (size_t i = 0; i < kThreads; ++i) {
    users.emplace_back([&loops, &members, i] {
      BlockOn(*loops[i], Use::Many(members[i].get()));
    });
  }
  for (int i = 0; i < 200; ++i) {
    group->SetLimits({.iops_total = {i % 3 == 0 ? 0 : 50000 + i, 0, 1}});
    std::this_thread::yield();
  }
  for (std::thread& user : users) user.join();
  for (size_t i = 0; i < kThreads; ++i) {
    BlockOn(*loops[i], Use::End(&members[i]));
  }
}

TEST(ThrottleGroups, AreFoundByName) {
  ThrottleGroups groups;
  EXPECT_EQ(groups.Find("a"), nullptr);
  groups.Set("a", {.iops_total = {5, 0, 1}});
  const std::shared_ptr<ThrottleGroup> a = groups.Find("a");
  ASSERT_NE(a, nullptr);
  groups.Set("a", {.iops_total = {6, 0, 1}});
  EXPECT_EQ(groups.Find("a"), a);
  EXPECT_EQ(a->limits().iops_total.average, 6);
  groups.Remove("a");
  EXPECT_EQ(groups.Find("a"), nullptr);
}

// --- From the configuration --------------------------------------------------

proto::Node ParseNode(const std::string& text) {
  proto::Node node;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &node));
  return node;
}

absl::StatusOr<ThrottleLimits> LimitsOf(const std::string& text) {
  return ThrottleLimitsOf(
      ParseNode(absl::StrCat("throttle { limits { ", text, " } }"))
          .throttle()
          .limits());
}

TEST(ThrottleLimits, AreRead) {
  const auto limits = LimitsOf(R"(
    iops_total: 1 iops_total_max: 2 iops_total_max_length: 3
    iops_read: 4 iops_read_max: 5 iops_read_max_length: 6
    iops_write: 7 iops_write_max: 8 iops_write_max_length: 9
    bps_total: "10" bps_total_max: "11" bps_total_max_length: 12
    bps_read: "13" bps_read_max: "14" bps_read_max_length: 15
    bps_write: "16" bps_write_max: "17" bps_write_max_length: 18
    iops_size: "19")");
  ASSERT_TRUE(limits.ok()) << limits.status();
  EXPECT_EQ(*limits, (ThrottleLimits{{1, 2, 3},
                                     {4, 5, 6},
                                     {7, 8, 9},
                                     {10, 11, 12},
                                     {13, 14, 15},
                                     {16, 17, 18},
                                     19}));
  EXPECT_EQ(*LimitsOf(""), ThrottleLimits());
}

TEST(ThrottleLimits, OfNonsenseAreRefused) {
  EXPECT_EQ(LimitsOf("iops_read: -1").status().message(),
            "iops_read -1 is negative; give 0 or more");
  EXPECT_EQ(LimitsOf("bps_write_max: \"x\"").status().message(),
            "bps_write_max \"x\" is not a number of bytes; give one");
  EXPECT_EQ(LimitsOf("bps_write_max_length: 0").status().message(),
            "bps_write_max_length 0 is no time; give 1 or more");
}

ENGINE_TEST(Throttle, IsOpenedWithItsGroupOrLimits) {
  auto groups = std::make_shared<ThrottleGroups>();
  groups->Set("g", {.iops_total = {5, 0, 1}});
  OpenContext context;
  context.throttle_groups = groups;
  const proto::Node in_group = ParseNode(
      "read_only: false throttle { group: \"g\" file_inline { "
      "node_name: \"m\" memory { size: \"4096\" } } }");
  const auto first = co_await OpenNode(graph->graph(), in_group, context);
  EXPECT_TRUE(first.ok()) << first.status();
  EXPECT_EQ((*first)->size(), 4096);
  EXPECT_EQ(&static_cast<ThrottleDriver&>((*first)->driver()).group(),
            groups->Find("g").get());
  EXPECT_FALSE(graph->graph().FindNode("m")->read_only());
  const proto::Node own =
      ParseNode("throttle { limits { iops_read: 7 } file_node: \"m\" }");
  const auto second = co_await OpenNode(graph->graph(), own, context);
  EXPECT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(static_cast<ThrottleDriver&>((*second)->driver())
                .group()
                .limits()
                .iops_read.average,
            7);
  const proto::Node lost =
      ParseNode("throttle { group: \"h\" file_node: \"m\" }");
  const auto third = co_await OpenNode(graph->graph(), lost, context);
  EXPECT_EQ(third.status().message(),
            "there is no throttle group \"h\"; define it in throttle_groups");
}

}  // namespace
}  // namespace bgfs
