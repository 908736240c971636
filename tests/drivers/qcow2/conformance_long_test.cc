// As conformance_test.cc, with 325 chains: every cluster size 25 times, and 11
// chains of 40 layers.

#include <cstdint>

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/compare.h"

namespace bgfs::qcow2 {
namespace {

constexpr uint64_t kChainsPerTest = 13;

class ConformanceLong : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Parts, ConformanceLong,
                         testing::Range<uint64_t>(0, 25));

TEST_P(ConformanceLong, SameBytesAsQemu) {
  if (!RunCommand("qemu-img --version && qemu-io --version").ok()) {
    GTEST_SKIP() << "qemu-img and qemu-io are not installed";
  }
  for (uint64_t i = 0; i < kChainsPerTest; ++i) {
    CompareChainOfSeed(13 + GetParam() * kChainsPerTest + i);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace bgfs::qcow2
