#include "drivers/qcow2/check.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/check_file.h"
#include "tests/drivers/qcow2/checkable_image.h"
#include "tests/drivers/qcow2/damages.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

using testing::HasSubstr;

constexpr uint64_t kCluster = CheckableImage::kCluster;

class Found : public testing::TestWithParam<Damage> {};
INSTANTIATE_TEST_SUITE_P(Check, Found, testing::ValuesIn(Damages()),
                         [](const auto& info) { return info.param.name; });

TEST_P(Found, WhatIsWrong) {
  const TempFolder folder;
  CheckableImage image;
  GetParam().damage(image);
  image.Write(folder / "a.qcow2");
  const absl::StatusOr<CheckReport> report = CheckFile(folder / "a.qcow2");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Summary(*report), GetParam().found);
  EXPECT_EQ(QemuVerdict(folder / "a.qcow2"), GetParam().qemu);
  for (const Finding& finding : report->findings) {
    EXPECT_FALSE(finding.text.empty());
    EXPECT_EQ(finding.text.find('\n'), std::string::npos);
  }
}

TEST(Check, CountsClusters) {
  const TempFolder folder;
  CheckableImage().Write(folder / "a.qcow2");
  const absl::StatusOr<CheckReport> report = CheckFile(folder / "a.qcow2");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(report->total_clusters, 256);
  EXPECT_EQ(report->allocated_clusters, 4);
  EXPECT_EQ(report->compressed_clusters, 2);
  EXPECT_EQ(report->image_end, HostOffset(8 * kCluster));
}

TEST(Check, RefusesWhatIsNoImage) {
  const TempFolder folder;
  EXPECT_THAT(
      std::string(CheckFile(folder.Write("raw", "hello")).status().message()),
      HasSubstr("not a qcow2 image"));
  EXPECT_FALSE(CheckFile(folder.Write("empty", "")).ok());
}

}  // namespace
}  // namespace bgfs::qcow2
