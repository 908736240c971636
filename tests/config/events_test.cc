#include "config/events.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

using control::Event;

Event Added(const std::string& id) {
  Event event;
  event.mutable_export_added()->set_id(id);
  return event;
}

// What is there already, after the first event, which is taken.
std::vector<Event> Take(EventHub::Follower* follower) {
  std::vector<Event> events;
  while (auto event = follower->WaitUntil(Deadline::clock::now())) {
    events.push_back(*event);
  }
  EXPECT_FALSE(events.empty());
  if (!events.empty()) {
    EXPECT_TRUE(events.front().has_following());
    events.erase(events.begin());
  }
  return events;
}

TEST(EventHub, EachFollowerGetsAllFromItsBeginning) {
  EventHub hub;
  hub.Publish(Added("before"));
  const auto first = hub.Follow();
  hub.Publish(Added("a"));
  const auto second = hub.Follow();
  hub.Publish(Added("b"));
  const auto of_first = Take(first.get());
  ASSERT_EQ(of_first.size(), 2);
  EXPECT_EQ(of_first[0].export_added().id(), "a");
  EXPECT_EQ(of_first[1].export_added().id(), "b");
  EXPECT_GT(of_first[0].time_ns(), 0);
  EXPECT_LE(of_first[0].time_ns(), of_first[1].time_ns());
  const auto of_second = Take(second.get());
  ASSERT_EQ(of_second.size(), 1);
  EXPECT_EQ(of_second[0].export_added().id(), "b");
}

TEST(EventHub, ASlowOneLosesTheOldestAndIsToldHowMany) {
  EventHub hub;
  const auto slow = hub.Follow();
  // The first one is among those that are lost.
  constexpr size_t kMore = 7;
  for (size_t i = 0; i < EventHub::kMostWaiting + kMore; ++i) {
    hub.Publish(Added(absl::StrCat(i)));
  }
  const auto event = slow->WaitUntil(Deadline::clock::now());
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->lost(), kMore + 1);
  EXPECT_EQ(event->export_added().id(), absl::StrCat(kMore));
  size_t left = 0;
  while (const auto next = slow->WaitUntil(Deadline::clock::now())) {
    EXPECT_EQ(next->lost(), 0);
    ++left;
  }
  EXPECT_EQ(left, EventHub::kMostWaiting - 1);
}

TEST(EventHub, EndsAfterWhatWasPublished) {
  EventHub hub;
  const auto follower = hub.Follow();
  hub.Publish(Added("a"));
  hub.End();
  EXPECT_FALSE(follower->ended());
  EXPECT_EQ(Take(follower.get()).size(), 1);
  EXPECT_TRUE(follower->ended());
  // Nobody waits for what does not come.
  EXPECT_FALSE(follower->WaitUntil(Deadline::max()).has_value());
  const auto late = hub.Follow();
  EXPECT_TRUE(Take(late.get()).empty());
  EXPECT_TRUE(late->ended());
}

TEST(EventHub, OneThatHasGoneIsForgotten) {
  EventHub hub;
  hub.Follow().reset();
  hub.Publish(Added("a"));
  auto kept = hub.Follow();
  {
    EventHub other;
    kept = other.Follow();
  }
  EXPECT_TRUE(Take(kept.get()).empty()) << "it outlives its hub";
}

TEST(EventHub, TakesEventsFromManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  EventHub hub;
  const auto follower = hub.Follow();
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&hub, i] {
      for (int j = 0; j < kEach; ++j) hub.Publish(Added(absl::StrCat(i)));
    });
  }
  std::vector<int> seen(kThreads);
  std::thread reader([&follower, &seen] {
    while (!follower->ended()) {
      const auto event = follower->WaitUntil(Deadline::max());
      if (!event.has_value() || !event->has_export_added()) continue;
      ++seen[static_cast<size_t>(std::stoi(event->export_added().id()))];
    }
  });
  for (std::thread& thread : threads) thread.join();
  hub.End();
  reader.join();
  EXPECT_EQ(seen, std::vector<int>(kThreads, kEach));
}

}  // namespace
}  // namespace bgfs::config
