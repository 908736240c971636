// COPY_ON_READ (engine.md, 2.3): what a read gets from below stays above.

#include "drivers/raw.h"
#include "tests/graph/cow_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

constexpr int64_t kCluster = Cow::kCluster;

Task<std::string> ReadUp(Backend* user, int64_t offset, int64_t bytes) {
  std::string data = Fill('?', bytes);
  EXPECT_IO_OK(co_await user->Read(offset, View(data), kCopyOnRead));
  co_return data;
}

ENGINE_TEST(CopyOnRead, LeavesWholeClustersAbove) {
  Cow cow(graph);
  EXPECT_EQ(co_await ReadUp(cow.user, kCluster - 10, 20), Fill('b', 20));
  EXPECT_EQ(cow.driver->allocated(), 2);
  EXPECT_EQ(cow.file.bytes(), Fill('b', 2 * kCluster));
  EXPECT_EQ(co_await ReadBytes(cow.user, 0, 4 * kCluster),
            Fill('b', 4 * kCluster));
  const int below = cow.base.count(Op::kRead);
  EXPECT_EQ(co_await ReadUp(cow.user, 0, 2 * kCluster),
            Fill('b', 2 * kCluster));
  EXPECT_EQ(cow.base.count(Op::kRead), below) << "it is above now";
  EXPECT_EQ(cow.file.count(Op::kWrite), 2);
}

ENGINE_TEST(CopyOnRead, TakesWhatIsAboveAsItIs) {
  Cow cow(graph);
  std::string data = Fill('n', kCluster);
  EXPECT_IO_OK(co_await cow.user->Write(kCluster, View(data)));
  EXPECT_EQ(co_await ReadUp(cow.user, 100, 3 * kCluster),
            Fill('b', kCluster - 100) + data + Fill('b', kCluster + 100));
  EXPECT_EQ(cow.driver->allocated(), 4);
  EXPECT_EQ(cow.file.count(Op::kWrite), 4);
}

ENGINE_TEST(CopyOnRead, ZerosTakeNoSpaceAbove) {
  Cow cow(graph);
  cow.base.bytes() = Fill(0, 4 * kCluster);
  EXPECT_EQ(co_await ReadUp(cow.user, 0, kCluster), Fill(0, kCluster));
  EXPECT_EQ(cow.driver->allocated(), 0);
  const int below = cow.base.count(Op::kRead);
  EXPECT_EQ(co_await ReadUp(cow.user, 0, kCluster), Fill(0, kCluster));
  EXPECT_EQ(cow.base.count(Op::kRead), below) << "known to be zeros now";
}

// A write that came in between would be undone by the older data.
ENGINE_TEST(CopyOnRead, ClaimsTheClustersThatItPopulates) {
  Cow cow(graph);
  std::string seen = Fill('?', 100);
  std::string data = Fill('n', 100);
  cow.base.Hold(Op::kRead);
  auto read = Start(cow.user->Read(0, View(seen), kCopyOnRead));
  co_await Settle();
  EXPECT_EQ(cow.base.waiting(Op::kRead), 1);
  EXPECT_EQ(cow.driver->node().requests().serialising_count(), 1);
  // Into the cluster, outside of what is read.
  auto write = Start(cow.user->Write(1000, View(data)));
  co_await Settle();
  EXPECT_FALSE(write->done());
  EXPECT_EQ(cow.base.waiting(Op::kRead), 1);
  cow.base.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(read->done() && write->done());
  EXPECT_EQ(co_await ReadBytes(cow.user, 1000, 100), data);
}

ENGINE_TEST(CopyOnRead, WaitsForAWriteAndLooksAgain) {
  Cow cow(graph);
  std::string seen = Fill('?', kCluster);
  std::string data = Fill('n', kCluster);
  cow.file.Hold(Op::kWrite);
  auto write = Start(cow.user->Write(0, View(data)));
  co_await Settle();
  auto read = Start(cow.user->Read(0, View(seen), kCopyOnRead));
  co_await Settle();
  EXPECT_FALSE(read->done());
  cow.file.Release(Op::kWrite);
  co_await Settle();
  EXPECT_TRUE(write->done() && read->done());
  EXPECT_EQ(seen, data);
  EXPECT_EQ(cow.file.count(Op::kWrite), 1) << "nothing was left to copy";
}

ENGINE_TEST(CopyOnRead, ClaimsNothingWhereAllIsAbove) {
  Cow cow(graph);
  std::string data = Fill('n', kCluster);
  EXPECT_IO_OK(co_await cow.user->Write(0, View(data)));
  cow.file.Hold(Op::kRead);
  std::string seen = Fill('?', 100);
  auto read = Start(cow.user->Read(0, View(seen), kCopyOnRead));
  co_await Settle();
  EXPECT_EQ(cow.driver->node().requests().serialising_count(), 0);
  cow.file.Release(Op::kRead);
  co_await Settle();
  EXPECT_TRUE(read->done());
}

ENGINE_TEST(CopyOnRead, NeedsOnlyTheRightToWriteWhatIsThere) {
  Cow cow(graph);
  graph->Drop(*cow.user);
  Backend& copier = graph->Open(
      *cow.driver, {kConsistentRead | kWriteUnchanged, kAllPermissions});
  EXPECT_EQ(co_await ReadUp(&copier, 0, 100), Fill('b', 100));
  EXPECT_EQ(cow.driver->allocated(), 1);
  Backend& reader =
      graph->Open(*cow.driver, {kConsistentRead, kAllPermissions});
  std::string data = Fill('?', 100);
  EXPECT_IO_ERROR(co_await reader.Read(0, View(data), kCopyOnRead), EPERM);
}

ENGINE_TEST(CopyOnRead, GoesThroughAFilter) {
  Cow cow(graph);
  auto owned = std::make_unique<RawDriver>(RawDriver::Options{100, {}});
  RawDriver* raw = owned.get();
  graph->AddNode("raw", 0, std::move(owned));
  graph->Attach(*raw, "file", ChildRole::kFilter, *cow.driver);
  EXPECT_TRUE((co_await raw->Open()).ok());
  EXPECT_EQ(co_await ReadUp(&graph->Open(*raw), 0, 100), Fill('b', 100));
  EXPECT_EQ(cow.driver->allocated(), 1);
}

ENGINE_TEST(CopyOnRead, IsAnErrorWhenTheCopyCannotBeKept) {
  Cow cow(graph);
  const int64_t generation = cow.driver->node().write_generation();
  std::string data = Fill('?', 100);
  cow.file.Fail(Op::kWrite, ENOSPC);
  EXPECT_IO_ERROR(co_await cow.user->Read(0, View(data), kCopyOnRead), ENOSPC);
  EXPECT_GT(cow.driver->node().write_generation(), generation);
}

// The last cluster of a node that ends inside it, over a layer that does not.
ENGINE_TEST(CopyOnRead, StopsAtTheEnd) {
  Cow cow(graph);
  EXPECT_IO_OK(co_await cow.user->Truncate(kCluster + 100, true));
  EXPECT_EQ(co_await ReadUp(cow.user, kCluster, 100), Fill('b', 100));
  EXPECT_IO_OK(co_await cow.user->Truncate(2 * kCluster, true));
  EXPECT_EQ(co_await ReadBytes(cow.user, kCluster, kCluster),
            Fill('b', 100) + Fill(0, kCluster - 100));
}

}  // namespace
}  // namespace bgfs
