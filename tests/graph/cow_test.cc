// The race that the change window is there for: a mapping is looked up, the
// cluster is freed and used again, and only then written.

#include "drivers/raw.h"
#include "tests/graph/cow_graph.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

constexpr int64_t kCluster = Cow::kCluster;

ENGINE_TEST(Cow, CopiesWhatIsAroundAWrite) {
  Cow cow(graph);
  std::string data = Fill('n', 100);
  EXPECT_IO_OK(co_await cow.user->Write(1000, View(data)));
  EXPECT_EQ(co_await ReadBytes(cow.user, 0, 2 * kCluster),
            Fill('b', 1000) + Fill('n', 100) + Fill('b', 2 * kCluster - 1100));
  EXPECT_EQ(cow.driver->allocated(), 1);
}

ENGINE_TEST(Cow, TwoWritesIntoOneNewClusterAllocateItOnce) {
  Cow cow(graph);
  std::string data = Fill('n', 100);
  auto first = Start(cow.user->Write(0, View(data)));
  auto second = Start(cow.user->Write(100, View(data)));
  EXPECT_IO_OK(co_await first->Wait());
  EXPECT_IO_OK(co_await second->Wait());
  EXPECT_EQ(cow.driver->allocated(), 1);
  EXPECT_EQ(co_await ReadBytes(cow.user, 0, 300),
            Fill('n', 200) + Fill('b', 100));
}

ENGINE_TEST(Cow, AFreedClusterIsNotReusedUnderAWrite) {
  Cow cow(graph);
  std::string old_data = Fill('o', kCluster);
  std::string new_data = Fill('n', kCluster);
  EXPECT_IO_OK(co_await cow.user->Write(0, View(old_data)));
  for (bool by_zero : {false, true}) {
    // In place, looked up, and not yet written.
    cow.file.Hold(Op::kWrite);
    auto in_place = Start(cow.user->Write(0, View(old_data)));
    co_await Settle();
    EXPECT_EQ(cow.file.waiting(Op::kWrite), 1);
    auto free = Start(by_zero ? cow.user->Zero(0, kCluster, kMayUnmap)
                              : cow.user->Discard(0, kCluster));
    co_await Settle();
    // Would take the freed cluster.
    auto reuse = Start(cow.user->Write(2 * kCluster, View(new_data)));
    co_await Settle();
    EXPECT_FALSE(free->done());
    cow.file.ReleaseOne(Op::kWrite);
    co_await Settle();
    cow.file.Release(Op::kWrite);
    co_await Settle();
    EXPECT_TRUE(in_place->done() && free->done() && reuse->done());
    EXPECT_EQ(co_await ReadBytes(cow.user, 2 * kCluster, kCluster), new_data);
    EXPECT_EQ(co_await ReadBytes(cow.user, 0, kCluster), Fill(0, kCluster));
    EXPECT_IO_OK(co_await cow.user->Write(0, View(old_data)));
    EXPECT_IO_OK(co_await cow.user->Discard(2 * kCluster, kCluster));
  }
}

ENGINE_TEST(Cow, AFreedClusterIsNotReusedUnderARead) {
  Cow cow(graph);
  std::string old_data = Fill('o', kCluster);
  std::string new_data = Fill('n', kCluster);
  EXPECT_IO_OK(co_await cow.user->Write(0, View(old_data)));
  cow.file.Hold(Op::kRead);
  std::string seen = Fill('?', kCluster);
  auto read = Start(cow.user->Read(0, View(seen)));
  co_await Settle();
  auto free = Start(cow.user->Discard(0, kCluster));
  co_await Settle();
  auto reuse = Start(cow.user->Write(2 * kCluster, View(new_data)));
  co_await Settle();
  cow.file.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(read->done() && free->done() && reuse->done());
  EXPECT_EQ(seen, old_data);
}

ENGINE_TEST(Cow, AFallbackForZerosAllocatesUnderItsClaim) {
  Cow cow(graph);
  std::string data = Fill('n', 100);
  // Zeros the driver refuses: parts of clusters that are then allocated.
  auto zero = Start(cow.user->Zero(1000, kCluster));
  auto head = Start(cow.user->Write(0, View(data)));
  auto tail = Start(cow.user->Write(2 * kCluster - 100, View(data)));
  EXPECT_IO_OK(co_await zero->Wait());
  EXPECT_IO_OK(co_await head->Wait());
  EXPECT_IO_OK(co_await tail->Wait());
  EXPECT_EQ(co_await ReadBytes(cow.user, 0, 2 * kCluster),
            Fill('n', 100) + Fill('b', 900) + Fill(0, kCluster) +
                Fill('b', kCluster - 1100) + Fill('n', 100));
  EXPECT_EQ(cow.driver->allocated(), 2);
}

ENGINE_TEST(Cow, ShrinkingAndGrowingShowsZeros) {
  Cow cow(graph);
  std::string data = Fill('n', 2 * kCluster);
  EXPECT_IO_OK(co_await cow.user->Write(kCluster, View(data)));
  EXPECT_IO_OK(co_await cow.user->Truncate(kCluster + 100, true));
  EXPECT_IO_OK(co_await cow.user->Truncate(4 * kCluster, true));
  EXPECT_EQ(co_await ReadBytes(cow.user, 0, 4 * kCluster),
            Fill('b', kCluster) + Fill('n', 100) + Fill(0, 3 * kCluster - 100));
}

// However the node grows, and through whatever filter.
ENGINE_TEST(Cow, GrowingOverALongerBackingLayerShowsZeros) {
  for (const bool through_raw : {false, true}) {
    for (int way = 0; way < 3; ++way) {
      TestGraph own(Loop::Current());
      Cow cow(&own);
      auto owned = std::make_unique<RawDriver>(RawDriver::Options{});
      RawDriver& raw = *owned;
      own.AddNode("raw", 0, std::move(owned));
      own.Attach(raw, "file", ChildRole::kFilter, *cow.driver);
      EXPECT_TRUE((co_await raw.Open()).ok());
      Backend* user = through_raw ? &own.Open(raw) : cow.user;
      std::string data = Fill('n', 100);
      EXPECT_IO_OK(co_await user->Truncate(kCluster + 10, true));
      std::string expected = Fill('b', kCluster + 10);
      if (way == 0) {
        EXPECT_IO_OK(co_await user->Write(kCluster + 10, View(data)));
        expected += data;
      } else if (way == 1) {
        EXPECT_IO_OK(co_await user->Write(2 * kCluster + 10, View(data)));
        expected += Fill(0, kCluster) + data;
      } else {
        EXPECT_IO_OK(co_await user->Zero(2 * kCluster, 100));
      }
      EXPECT_IO_OK(co_await user->Truncate(4 * kCluster, true));
      expected.resize(4 * kCluster, 0);
      EXPECT_EQ(co_await ReadBytes(user, 0, 4 * kCluster), expected)
          << through_raw << " " << way;
      co_await own.Close();
    }
  }
}

// A window over an overlay shows what its backing layer has.
ENGINE_TEST(Cow, ARawNodeAboveSeesTheBackingLayersData) {
  Cow cow(graph);
  EXPECT_IO_OK(co_await cow.user->Zero(kCluster, kCluster));
  auto owned = std::make_unique<RawDriver>(RawDriver::Options{});
  RawDriver& raw = *owned;
  graph->AddNode("raw", 0, std::move(owned));
  graph->Attach(raw, "file", ChildRole::kFilter, *cow.driver);
  EXPECT_TRUE((co_await raw.Open()).ok());
  Backend& user = graph->Open(raw, {kConsistentRead, kAllPermissions});
  for (int64_t cluster = 0; cluster < 4; ++cluster) {
    auto status = co_await user.Status(cluster * kCluster, kCluster);
    EXPECT_IO_OK(status);
    if (!status.ok()) continue;
    const bool data = (status->flags & BlockStatus::kData) != 0;
    EXPECT_EQ(data, cluster != 1) << cluster;
  }
}

}  // namespace
}  // namespace bgfs
