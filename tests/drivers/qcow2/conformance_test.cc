// What the driver reads from chains that QEMU's tools made is what these tools
// read. A few chains of every cluster size; conformance_long_test.cc has more.

#include <cstdint>

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/compare.h"

namespace bgfs::qcow2 {
namespace {

class Conformance : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, Conformance, testing::Range<uint64_t>(0, 13));

TEST_P(Conformance, SameBytesAsQemu) {
  if (!RunCommand("qemu-img --version && qemu-io --version").ok()) {
    GTEST_SKIP() << "qemu-img and qemu-io are not installed";
  }
  CompareChainOfSeed(GetParam());
}

}  // namespace
}  // namespace bgfs::qcow2
