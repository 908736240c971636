// Checking a host file, with bgfs and with QEMU.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_CHECK_FILE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_CHECK_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "drivers/qcow2/check.h"

namespace bgfs::qcow2 {

absl::StatusOr<CheckReport> CheckFile(const std::string& path,
                                      Repair repair = Repair::kNone);

// "refcount too low 1, leak 2": what was found, without marks.
std::string Summary(const CheckReport& report);

enum class Verdict : uint8_t { kClean, kLeaks, kCorrupt, kUnusable };

Verdict VerdictOf(const absl::StatusOr<CheckReport>& report);
// What `qemu-img check` says; with `repair` ("leaks", "all") afterwards.
Verdict QemuVerdict(const std::string& path, const std::string& repair = "");

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_CHECK_FILE_H_
