// Any bytes as a qcow2 image on a simulated disk: checked, repaired, opened,
// read, written, closed and checked again.
//
//   0  1  what is done: bits below
//   1  1  how many operations follow, modulo 32
//   2     these, of 8 bytes each (Operation)
//         the image; its file may be longer, with zeros at its end, or only
//         the starts of its pieces, of which the rest is zeros
//
// Whatever the image holds nothing may crash, hang or take memory without
// bound. What a check finds in order must be so: then everything reads back as
// it was written, also after closing and opening again, and nothing is found
// wrong afterwards. And a repair leaves what the next check finds.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "drivers/qcow2/check.h"
#include "tests/drivers/qcow2/sim_check.h"
#include "tests/fuzz/disk_ops.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/qcow2_sharing.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {
namespace {

constexpr uint8_t kForWriting = 1 << 0;
constexpr uint8_t kRepairLeaks = 1 << 1;
constexpr uint8_t kRepairAll = 1 << 2;
constexpr uint8_t kTogether = 1 << 3;  // the operations run side by side
constexpr uint8_t kLonger = 3 << 4;    // how much longer the file is
constexpr uint8_t kTwice = 1 << 6;     // operations again, after reopening
constexpr uint8_t kSpread = 1 << 7;    // only the starts of pieces are given

constexpr size_t kLongerBytes[] = {0, 512, 4096, 65536};
// So that an image with large clusters is a short input.
constexpr size_t kPieceBytes = 16384;
constexpr size_t kStartBytes = 1024;
constexpr int kMaxOperations = 32;
constexpr int64_t kMaxSteps = 2000000;
constexpr int64_t kMaxComparedBytes = 16 << 20;

// In a folder, from which names in its header lead.
constexpr char kImage[] = "images/image";

// A check of a simulated file, quiet about what it finds.
absl::StatusOr<CheckReport> Check(SimWorld& world,
                                  Repair repair = Repair::kNone,
                                  const char* path = kImage) {
  absl::StatusOr<CheckReport> report = CheckInWorld(world, path, repair);
  if (report.ok()) {
    for (const Finding& finding : report->findings) {
      EXPECT_FALSE(finding.text.empty());
      EXPECT_EQ(finding.text.find('\n'), std::string::npos) << finding.text;
    }
  }
  return report;
}

std::string TextOf(const CheckReport& report) {
  std::string text;
  for (const Finding& finding : report.findings) text += finding.text + "\n";
  return text;
}

// Repairs, and gives what is left: that is what the next check finds, and the
// next repair makes nothing worse.
absl::StatusOr<CheckReport> CheckRepaired(SimWorld& world, Repair repair) {
  absl::StatusOr<CheckReport> repaired = Check(world, repair);
  if (!repaired.ok()) return repaired;
  absl::StatusOr<CheckReport> after = Check(world);
  EXPECT_TRUE(after.ok()) << after.status();
  if (!after.ok()) return after;
  EXPECT_EQ(after->counts, repaired->counts);
  const absl::StatusOr<CheckReport> again = Check(world, repair);
  EXPECT_TRUE(again.ok()) << again.status();
  if (again.ok()) EXPECT_LE(again->corruptions(), after->corruptions());
  return after;
}

// Counts of clusters past the end of the file are no leaks, until the file
// grows over them: with `image`, what was there before, made as long.
void ExpectNoNewLeaks(SimWorld& world, const CheckReport& after,
                      std::string image) {
  constexpr char kLongerImage[] = "longer";
  const int64_t size = world.disk().Image(kImage).size();
  if (size > kMaxComparedBytes) return;
  image.resize(std::max(image.size(), static_cast<size_t>(size)));
  world.disk().Create(kLongerImage, image);
  const auto before = Check(world, Repair::kNone, kLongerImage);
  EXPECT_TRUE(before.ok()) << before.status();
  if (before.ok()) EXPECT_LE(after.leaks(), before->leaks()) << TextOf(after);
}

// Of an image that was sound before, when it was `image`.
void ExpectNoCorruption(const CheckReport& after, const std::string& image) {
  int64_t corruptions = after.corruptions();
  if (corruptions > 0 && DiskSharesClusters(image)) {
    corruptions -= after.count(FindingKind::kCopiedClear);
  }
  EXPECT_EQ(corruptions, 0) << TextOf(after);
}

std::vector<DiskOp> TakeOperations(FuzzInput* input) {
  const int count = input->Take<uint8_t>() % kMaxOperations;
  std::vector<DiskOp> operations;
  operations.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) operations.push_back(input->Take<DiskOp>());
  return operations;
}

std::string Spread(absl::string_view starts) {
  std::string image;
  for (size_t at = 0; at < starts.size(); at += kStartBytes) {
    image += std::string(starts.substr(at, kStartBytes));
    image.resize(at / kStartBytes * kPieceBytes + kPieceBytes);
  }
  return image;
}

void Run(FuzzInput input) {
  const auto options = input.Take<uint8_t>();
  const std::vector<DiskOp> operations = TakeOperations(&input);
  std::string image = (options & kSpread) != 0 ? Spread(input.rest())
                                               : std::string(input.rest());
  image.resize(image.size() + kLongerBytes[(options & kLonger) >> 4]);

  SimWorld world(0, SimRandom(1));
  world.LimitSteps(kMaxSteps);
  world.disk().options().short_transfer = 0;
  world.disk().options().interrupted = 0;
  world.disk().options().in_pages = 0;
  world.disk().Create(kImage, image);
  // What its header may name.
  world.disk().Create("images/base", std::string(10000, 'b'));

  absl::StatusOr<CheckReport> before = Check(world);
  if ((options & (kRepairLeaks | kRepairAll)) != 0) {
    before = CheckRepaired(
        world, (options & kRepairAll) != 0 ? Repair::kAll : Repair::kLeaks);
  }
  const bool sound = before.ok() && before->corruptions() == 0;
  // A repair may have made it long, most of it a hole.
  if (world.disk().Image(kImage).size() <= kMaxComparedBytes) {
    image = world.disk().Content(kImage);
  }

  DiskRun run(&world, kImage, (options & kForWriting) != 0, sound);
  for (int opens = 0; opens < ((options & kTwice) != 0 ? 2 : 1); ++opens) {
    run.Run(operations, (options & kTogether) != 0);
  }
  const absl::StatusOr<CheckReport> after = Check(world);
  if (!sound) return;
  EXPECT_TRUE(after.ok()) << after.status();
  if (!after.ok()) return;
  ExpectNoCorruption(*after, image);
  if (after->leaks() > 0) ExpectNoNewLeaks(world, *after, std::move(image));
}

}  // namespace
}  // namespace bgfs::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bgfs::qcow2::Run(bgfs::FuzzInput(data, size));
  bgfs::AbortIfFailed();
  return 0;
}
