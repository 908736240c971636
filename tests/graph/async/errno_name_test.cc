#include "graph/async/errno_name.h"

#include <cerrno>

#include "gtest/gtest.h"

namespace bgfs {
namespace {

TEST(ErrnoOf, KnowsNamesAndNumbers) {
  EXPECT_EQ(ErrnoOf("EIO"), EIO);
  EXPECT_EQ(ErrnoOf("ENOSPC"), ENOSPC);
  EXPECT_EQ(ErrnoOf("EDQUOT"), EDQUOT);
  EXPECT_EQ(ErrnoOf("5"), 5);
  EXPECT_EQ(ErrnoOf("ENOTSUP"), ENOTSUP);
  EXPECT_EQ(ErrnoOf("EOPNOTSUPP"), EOPNOTSUPP);
  EXPECT_EQ(ErrnoOf("EAGAIN"), EAGAIN);
  EXPECT_EQ(ErrnoOf("EWOULDBLOCK"), EAGAIN);
}

TEST(ErrnoOf, AndNothingElse) {
  for (const char* name : {"", "E", "eio", "EIO ", "0", "-5", "512", "100000",
                           "99999999999999", "5x", "success"}) {
    EXPECT_EQ(ErrnoOf(name), 0) << name;
  }
}

}  // namespace
}  // namespace bgfs
