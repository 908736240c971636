#include "fuse/negotiate.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

namespace bgfs::fuse {
namespace {

constexpr uint32_t kMiB = 1 << 20;
constexpr Carries kCarries = {.max_write_bytes = kMiB};

fuse_init_in NewKernel() {
  fuse_init_in in = {};
  in.major = 7;
  in.minor = 45;
  in.flags = ~0u;
  in.flags2 = ~0u;
  in.max_readahead = 131072;
  return in;
}

TEST(Negotiate, TakesWhatItWantsAndNothingElse) {
  fuse_init_out out;
  Agreement agreement;
  ASSERT_TRUE(Negotiate(NewKernel(), {}, kCarries, &out, &agreement).ok());
  EXPECT_TRUE(agreement.Has(FUSE_ASYNC_DIO));
  EXPECT_TRUE(agreement.Has(kInitDirectIoAllowMmap));
  EXPECT_FALSE(agreement.Has(FUSE_WRITEBACK_CACHE));
  EXPECT_FALSE(agreement.Has(FUSE_ATOMIC_O_TRUNC));
  EXPECT_FALSE(agreement.Has(kInitOverIoUring));
  EXPECT_EQ(out.flags2, uint32_t{1} << (36 - 32));
  EXPECT_EQ(out.max_write, kMiB);
  EXPECT_EQ(out.max_pages, 256);
  EXPECT_EQ(out.max_background, 512);
  EXPECT_EQ(out.max_readahead, 131072u);
  EXPECT_EQ(
      agreement.direct_open_flags,
      uint32_t{FOPEN_DIRECT_IO | FOPEN_NOFLUSH | FOPEN_PARALLEL_DIRECT_WRITES});
}

TEST(Negotiate, PassesThroughWhereThatIsAskedForAndOffered) {
  Carries carries = kCarries;
  carries.init_flags = kInitPassthrough;
  fuse_init_out expected;
  fuse_init_out out;
  Agreement agreement;
  ASSERT_TRUE(Negotiate(NewKernel(), {}, carries, &out, &agreement).ok());
  EXPECT_TRUE(agreement.Has(kInitPassthrough));
  EXPECT_NE(out.flags2 & (uint32_t{1} << (37 - 32)), 0u);
  // The kernel takes none of it without a depth.
  expected = out;
  SetStackDepth(2, &expected);
  EXPECT_EQ(std::memcmp(&out, &expected, sizeof(out)), 0);

  KernelMask mask;
  mask.init_flags = kInitPassthrough;
  ASSERT_TRUE(Negotiate(NewKernel(), mask, carries, &out, &agreement).ok());
  EXPECT_FALSE(agreement.Has(kInitPassthrough));
  expected = out;
  SetStackDepth(0, &expected);
  EXPECT_EQ(std::memcmp(&out, &expected, sizeof(out)), 0);
  // Not for others: a file system on which nothing else can be stacked.
  ASSERT_TRUE(Negotiate(NewKernel(), {}, kCarries, &out, &agreement).ok());
  EXPECT_FALSE(agreement.Has(kInitPassthrough));
}

TEST(Negotiate, SeesAnOlderKernelThroughTheMask) {
  KernelMask mask;
  mask.init_flags = FUSE_MAX_PAGES | kInitDirectIoAllowMmap;
  mask.max_minor = 37;
  fuse_init_out out;
  Agreement agreement;
  ASSERT_TRUE(Negotiate(NewKernel(), mask, kCarries, &out, &agreement).ok());
  EXPECT_EQ(out.max_write, 131072u);
  EXPECT_EQ(out.flags & FUSE_MAX_PAGES, 0u);
  EXPECT_EQ(out.flags2, 0u);
  EXPECT_EQ(agreement.direct_open_flags & FOPEN_PARALLEL_DIRECT_WRITES, 0u);
}

TEST(Negotiate, IgnoresFlags2WithoutInitExt) {
  fuse_init_in in = NewKernel();
  in.flags = FUSE_ASYNC_DIO;
  fuse_init_out out;
  Agreement agreement;
  ASSERT_TRUE(Negotiate(in, {}, kCarries, &out, &agreement).ok());
  EXPECT_EQ(agreement.init_flags, uint64_t{FUSE_ASYNC_DIO});

  KernelMask mask;
  mask.init_flags = FUSE_INIT_EXT;
  ASSERT_TRUE(Negotiate(NewKernel(), mask, kCarries, &out, &agreement).ok());
  EXPECT_FALSE(agreement.Has(kInitDirectIoAllowMmap));
  EXPECT_TRUE(agreement.Has(FUSE_ASYNC_DIO));
  EXPECT_EQ(out.flags2, 0u);
}

TEST(Negotiate, RefusesOldKernelsAndWaitsForNewMajors) {
  fuse_init_out out;
  Agreement agreement;
  fuse_init_in in = NewKernel();
  in.minor = kOldestMinor - 1;
  EXPECT_EQ(Negotiate(in, {}, kCarries, &out, &agreement).error(), EPROTO);
  in = NewKernel();
  in.major = 6;
  EXPECT_EQ(Negotiate(in, {}, kCarries, &out, &agreement).error(), EPROTO);
  in.major = 8;
  ASSERT_TRUE(Negotiate(in, {}, kCarries, &out, &agreement).ok());
  EXPECT_EQ(out.major, 7u);
  EXPECT_EQ(out.flags, 0u);
  EXPECT_EQ(agreement.minor, 0u);
}

}  // namespace
}  // namespace bgfs::fuse
