#include "drivers/qcow2/slots.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "gtest/gtest.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {
namespace {

struct Work {
  int running = 0;
  int most = 0;
  int done = 0;
};

Task<IoStatus> Piece(Work* work, int64_t ns, int error) {
  work->most = std::max(work->most, ++work->running);
  Loop* loop = Loop::Current();
  if (ns > 0) co_await loop->SleepUntil(loop->NowNs() + ns);
  --work->running;
  ++work->done;
  co_return IoStatus::Errno(error);
}

Task<void> RunSome(Work* work, int count, int64_t ns, int failing) {
  Pieces pieces(3);
  for (int i = 0; i < count; ++i) {
    co_await pieces.Add(Piece(work, ns * (1 + i % 4), i >= failing ? EIO : 0));
  }
  const IoStatus status = co_await pieces.Join();
  EXPECT_EQ(status.error(), failing < count ? EIO : 0);
  EXPECT_EQ(pieces.failed(), failing < count);
  EXPECT_EQ(work->done, count);
}

TEST(Pieces, RunSideBySideWithinTheBound) {
  Work work;
  SimWorld world(1);
  world.Run(RunSome(&work, 20, 1000, 20));
  EXPECT_EQ(work.most, 3);
}

TEST(Pieces, JoinWaitsForAllAndGivesTheFailure) {
  Work work;
  SimWorld world(1);
  world.Run(RunSome(&work, 20, 1000, 4));
}

TEST(Pieces, ThatEndAtOnceNeedNoWaiting) {
  Work work;
  SimWorld world(1);
  world.Run(RunSome(&work, 1000, 0, 1000));
  EXPECT_EQ(work.most, 1);
}

}  // namespace
}  // namespace bgfs::qcow2
