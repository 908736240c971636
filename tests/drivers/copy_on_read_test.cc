#include "drivers/copy_on_read.h"

#include <memory>
#include <string>
#include <utility>

#include "drivers/throttle.h"
#include "tests/drivers/filter_graph.h"
#include "tests/graph/cow_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

constexpr int64_t kCluster = Cow::kCluster;

Task<Backend*> OpenOver(TestGraph* graph, Driver* below,
                        Permissions used = kConsistentRead) {
  CopyOnReadDriver* const driver = co_await AddFilter(
      graph, "copy", std::make_unique<CopyOnReadDriver>(), below);
  co_return &graph->Open(*driver, {used, kAllPermissions});
}

ENGINE_TEST(CopyOnReadDriver, LeavesInTheOverlayWhatIsRead) {
  Cow cow(graph);
  graph->Drop(*cow.user);
  Backend* const reader = co_await OpenOver(graph, cow.driver);
  EXPECT_EQ(reader->size(), 4 * kCluster);
  EXPECT_EQ(co_await ReadBytes(reader, kCluster - 1, 2), Fill('b', 2));
  EXPECT_EQ(cow.driver->allocated(), 2);
  const int below = cow.base.count(Op::kRead);
  EXPECT_EQ(co_await ReadBytes(reader, 0, 2 * kCluster),
            Fill('b', 2 * kCluster));
  EXPECT_EQ(cow.base.count(Op::kRead), below);
}

ENGINE_TEST(CopyOnReadDriver, NeedsNoRightToWriteAbove) {
  Cow cow(graph);
  graph->Drop(*cow.user);
  Backend* const reader = co_await OpenOver(graph, cow.driver);
  EXPECT_EQ(cow.driver->node().parents().front()->permissions().used,
            kConsistentRead | kWriteUnchanged);
  std::string data = Fill('n', 1);
  EXPECT_IO_ERROR(co_await reader->Write(0, View(data)), EPERM);
}

ENGINE_TEST(CopyOnReadDriver, WritesPass) {
  Cow cow(graph);
  graph->Drop(*cow.user);
  Backend* const user =
      co_await OpenOver(graph, cow.driver, kConsistentRead | kWrite | kResize);
  std::string data = Fill('n', kCluster);
  EXPECT_IO_OK(co_await user->Write(kCluster, View(data)));
  EXPECT_EQ(co_await ReadBytes(user, 0, 3 * kCluster),
            Fill('b', kCluster) + data + Fill('b', kCluster));
  EXPECT_EQ(cow.driver->allocated(), 3);
  EXPECT_IO_OK(co_await user->Truncate(kCluster, true));
  EXPECT_EQ(user->size(), kCluster);
}

ENGINE_TEST(CopyOnReadDriver, WorksThroughOtherFilters) {
  Cow cow(graph);
  ThrottleDriver* const throttle =
      co_await AddFilter(graph, "throttle",
                         std::make_unique<ThrottleDriver>(
                             std::make_shared<ThrottleGroup>(ThrottleLimits())),
                         cow.driver);
  Backend* const reader = co_await OpenOver(graph, throttle);
  EXPECT_EQ(co_await ReadBytes(reader, 0, 1), Fill('b', 1));
  EXPECT_EQ(cow.driver->allocated(), 1);
}

ENGINE_TEST(CopyOnReadDriver, DoesNothingWhereNothingIsBelow) {
  TestDriver& disk = graph->Add("disk", 4096);
  Backend* const reader = co_await OpenOver(graph, &disk);
  EXPECT_EQ(co_await ReadBytes(reader, 0, 4096), Fill(0, 4096));
  EXPECT_EQ(disk.count(Op::kWrite), 0);
}

ENGINE_TEST(CopyOnReadDriver, NeedsSomethingToWriteTo) {
  NodeOptions options;
  options.read_only = true;
  TestDriver& disk = graph->Add("disk", 4096, std::move(options));
  auto owned = std::make_unique<CopyOnReadDriver>();
  CopyOnReadDriver* const driver = owned.get();
  graph->AddNode("copy", 0, std::move(owned));
  graph->Attach(*driver, "file", ChildRole::kFilter, disk);
  EXPECT_EQ((co_await driver->Open()).message(),
            "cannot copy into node \"disk\", which is read-only; give that "
            "read_only: false");
}

}  // namespace
}  // namespace bgfs
