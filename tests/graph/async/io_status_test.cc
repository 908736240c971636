#include "graph/async/io_status.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "graph/async/task.h"
#include "gtest/gtest.h"

namespace bgfs {
namespace {

TEST(IoStatus, KeepsTheExactErrno) {
  EXPECT_TRUE(IoStatus().ok());
  for (const int error : {EIO, ENOSPC, EDQUOT}) {
    EXPECT_FALSE(IoError(error).ok());
    EXPECT_EQ(IoError(error).error(), error);
  }
  EXPECT_NE(IoError(ENOSPC), IoError(EDQUOT));
}

TEST(IoStatus, BecomesAStatusThatNamesTheContext) {
  EXPECT_TRUE(IoStatus().ToStatus("disk.img").ok());
  const absl::Status status = IoError(ENOENT).ToStatus("disk.img");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "disk.img: No such file or directory");
}

TEST(IoResult, HoldsAValueOrAnErrno) {
  IoResult<std::unique_ptr<int>> value(std::make_unique<int>(3));
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value.error(), 0);
  EXPECT_EQ(**value, 3);
  const IoResult<std::string> error = IoError(EPERM);
  EXPECT_FALSE(error.ok());
  EXPECT_EQ(error.status(), IoError(EPERM));
}

TEST(IoResultDeathTest, TakingAValueThatIsNotThereIsABug) {
  IoResult<int> error = IoError(EIO);
  EXPECT_DEATH((void)*error, "bug at .*io_status.h");
  EXPECT_DEATH((void)IoResult<int>(IoStatus()), "bug at .*io_status.h");
}

Task<IoStatus> FailAt(int step, int* steps) {
  for (int i = 0; i < 3; ++i) {
    BGFS_CO_TRY(i == step ? IoError(ENOSPC) : IoStatus());
    ++*steps;
  }
  co_return IoStatus();
}

Task<void> Into(Task<IoStatus> task, IoStatus* status) {
  *status = co_await std::move(task);
}

TEST(IoStatus, TryReturnsTheFirstError) {
  for (int step = 0; step < 4; ++step) {
    int steps = 0;
    IoStatus status = IoError(EIO);
    Spawn(Into(FailAt(step, &steps), &status));
    EXPECT_EQ(status.error(), step < 3 ? ENOSPC : 0);
    EXPECT_EQ(steps, step < 3 ? step : 3);
  }
}

}  // namespace
}  // namespace bgfs
