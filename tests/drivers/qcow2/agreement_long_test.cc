// Damage to every kind of metadata, 100 seeds each: bgfs and QEMU agree.

#include <cstdint>

#include "gtest/gtest.h"
#include "tests/drivers/qcow2/agreement.h"
#include "tests/drivers/qcow2/chain_gen.h"

namespace bgfs::qcow2 {
namespace {

class AgreementLong : public testing::TestWithParam<DamageTo> {};
INSTANTIATE_TEST_SUITE_P(
    Check, AgreementLong,
    testing::Values(DamageTo::kHeader, DamageTo::kL1, DamageTo::kL2,
                    DamageTo::kRefcountTable, DamageTo::kRefcountBlock,
                    DamageTo::kSnapshotTable, DamageTo::kSnapshotL1,
                    DamageTo::kBitmapDirectory),
    [](const auto& info) { return NameOf(info.param); });

TEST_P(AgreementLong, WithQemu) {
  if (!RunCommand("qemu-img --version && qemu-io --version").ok()) {
    GTEST_SKIP() << "qemu-img and qemu-io are not installed";
  }
  ExpectAgreement(GetParam(), 11, 111);
}

}  // namespace
}  // namespace bgfs::qcow2
