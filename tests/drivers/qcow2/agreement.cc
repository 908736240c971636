#include "tests/drivers/qcow2/agreement.h"

#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/chain_gen.h"
#include "tests/drivers/qcow2/check_file.h"
#include "tests/drivers/qcow2/file_bytes.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

const char* NameOf(Verdict verdict) {
  static constexpr std::array<const char*, 4> kNames = {"clean", "leaks",
                                                        "corrupt", "unusable"};
  return kNames[static_cast<size_t>(verdict)];
}

// --- Where the two may differ; tests/README.md says why ----------------------

bool MayDiffer(const absl::StatusOr<CheckReport>& report, Verdict qemu,
               DamageTo kind) {
  if (!report.ok()) {
    return absl::StrContains(report.status().message(), "header_length");
  }
  if (qemu == Verdict::kUnusable) {
    return report->count(FindingKind::kRefcountTable) != 0 ||
           report->count(FindingKind::kSnapshot) != 0 ||
           kind == DamageTo::kBitmapDirectory;
  }
  return qemu == Verdict::kClean &&
         report->count(FindingKind::kBadEntry) == report->corruptions();
}

bool MayRemain(const CheckReport& left, DamageTo kind) {
  return left.count(FindingKind::kOverlap) != 0 ||
         left.count(FindingKind::kSnapshot) != 0 ||
         left.count(FindingKind::kBadEntry) == left.corruptions() ||
         kind == DamageTo::kBitmapDirectory;
}

class Agreement {
 public:
  // How often both repaired an image, and the guest's bytes were compared.
  static inline int compared_guests = 0;

  Agreement(DamageTo kind, uint64_t seed, const GoodImage& image,
            const TempFolder& folder)
      : ours_(folder / "ours.qcow2"),
        qemus_(folder / "qemus.qcow2"),
        kind_(kind) {
    std::string description;
    const std::vector<uint8_t> bytes =
        DamageImage(image, kind, seed, &description);
    description_ = description;
    StoreFile(ours_, bytes);
    StoreFile(qemus_, bytes);
  }

  void Compare() {
    const auto report = CheckFile(ours_);
    const Verdict found = VerdictOf(report);
    const Verdict qemu_found = QemuVerdict(qemus_);
    if (found != qemu_found) {
      EXPECT_TRUE(MayDiffer(report, qemu_found, kind_))
          << NameOf(found) << ", QEMU says " << NameOf(qemu_found) << ": "
          << Say(report);
    }
    if (found == Verdict::kClean || found == Verdict::kUnusable) return;
    QemuVerdict(qemus_, "all");
    CompareRepaired(CheckFile(ours_, Repair::kAll), QemuVerdict(qemus_));
  }

 private:
  void CompareRepaired(const absl::StatusOr<CheckReport>& left,
                       Verdict qemu_left) {
    // A table over the header, which a repair would write through.
    if (absl::StrContains(left.status().message(), "lies over the header")) {
      return;
    }
    ASSERT_TRUE(left.ok()) << Say(left);
    if (VerdictOf(left) == Verdict::kClean) {
      // QEMU may have mended less, but must agree that nothing is left.
      EXPECT_EQ(QemuVerdict(ours_), Verdict::kClean) << Say(left);
    } else if (VerdictOf(left) != qemu_left) {
      EXPECT_TRUE(MayRemain(*left, kind_))
          << "QEMU leaves " << NameOf(qemu_left) << ": " << Say(left);
    }
    if (!left->clean() || qemu_left != Verdict::kClean) return;
    const int compared = CompareGuests();
    EXPECT_NE(compared, 1) << "different bytes; " << Say(left);
    if (compared == 0) ++compared_guests;
  }

  std::string Say(const absl::StatusOr<CheckReport>& report) const {
    return absl::StrCat(description_, ": ",
                        report.ok() ? Summary(*report)
                                    : std::string(report.status().message()));
  }

  // 1 if the guest reads different bytes.
  int CompareGuests() const {
    const int status = std::system(
        absl::StrCat("timeout 60 qemu-img compare -q -f qcow2 -F qcow2 ", ours_,
                     " ", qemus_, " >/dev/null 2>&1")
            .c_str());
    return WEXITSTATUS(status);
  }

  const std::string ours_;
  const std::string qemus_;
  const DamageTo kind_;
  std::string description_;
};

}  // namespace

void ExpectAgreement(DamageTo kind, uint64_t first, uint64_t last) {
  const TempFolder folder;
  std::vector<GoodImage> images;
  const absl::Status made = MakeGoodImages(folder.path(), &images);
  ASSERT_TRUE(made.ok()) << made;
  std::vector<GoodImage> fit;
  for (GoodImage& image : images) {
    if (!AreasOf(image.bytes, kind).empty()) fit.push_back(std::move(image));
  }
  ASSERT_FALSE(fit.empty());
  Agreement::compared_guests = 0;
  for (uint64_t seed = first; seed < last; ++seed) {
    Agreement(kind, seed, fit[seed % fit.size()], folder).Compare();
  }
  testing::Test::RecordProperty("compared_guests", Agreement::compared_guests);
}

}  // namespace bgfs::qcow2
