#include "graph/async/make_loop.h"

#include <sys/syscall.h>

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "graph/async/uring_loop.h"
#include "gtest/gtest.h"
#include "tests/graph/async/deny.h"

namespace bgfs {
namespace {

using ::testing::HasSubstr;

// Leaves BGFS_LOOP as it was.
class MakeLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* value = std::getenv(kVariable)) before_ = value;
    unsetenv(kVariable);
  }
  void TearDown() override {
    before_.has_value() ? Force(*before_) : void(unsetenv(kVariable));
  }
  static void Force(const std::string& value) {
    setenv(kVariable, value.c_str(), 1);
  }

 private:
  static constexpr char kVariable[] = "BGFS_LOOP";
  std::optional<std::string> before_;
};

Task<bool> IsHere(Loop* loop) { co_return loop->IsCurrent(); }

TEST_F(MakeLoopTest, TakesIoUringWhereItIsToBeHad) {
  if (!UringLoop::Start("test").ok()) GTEST_SKIP() << "no io_uring here";
  auto loop = MakeLoop("test");
  ASSERT_TRUE(loop.ok()) << loop.status();
  EXPECT_EQ((*loop)->body(), "io_uring");
  EXPECT_EQ((*loop)->why_not_uring(), "");
  EXPECT_TRUE(BlockOn(**loop, IsHere(loop->get())));
}

TEST_F(MakeLoopTest, TakesThreadsWhereIoUringIsDenied) {
  const int errors[] = {EPERM, EACCES, ENOSYS, EINVAL, ENOMEM};
  for (const int error : errors) {
    RunDenied(SYS_io_uring_setup, error, [error] {
      auto loop = MakeLoop("test");
      ASSERT_TRUE(loop.ok()) << loop.status();
      EXPECT_EQ((*loop)->body(), "threads");
      EXPECT_THAT(std::string((*loop)->why_not_uring()),
                  HasSubstr(strerror(error)));
      EXPECT_TRUE(BlockOn(**loop, IsHere(loop->get())));
    });
  }
}

TEST_F(MakeLoopTest, FailsWhereThreadsWouldNotHelp) {
  for (const int error : {EMFILE, ENFILE, EFAULT}) {
    RunDenied(SYS_io_uring_setup, error, [error] {
      EXPECT_THAT(std::string(MakeLoop("test").status().message()),
                  HasSubstr(strerror(error)));
    });
  }
}

TEST_F(MakeLoopTest, CanBeForced) {
  Force("threads");
  auto loop = MakeLoop("test");
  ASSERT_TRUE(loop.ok()) << loop.status();
  EXPECT_EQ((*loop)->body(), "threads");
  Force("io_uring");
  RunDenied(SYS_io_uring_setup, EPERM, [] {
    EXPECT_THAT(std::string(MakeLoop("test").status().message()),
                HasSubstr("cannot set up io_uring"));
  });
  Force("uring");
  EXPECT_THAT(std::string(MakeLoop("test").status().message()),
              HasSubstr("BGFS_LOOP is \"uring\""));
}

}  // namespace
}  // namespace bgfs
