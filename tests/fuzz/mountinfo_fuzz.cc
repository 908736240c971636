// Any bytes as the text of /proc/self/mountinfo.

#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fuse/mountinfo.h"
#include "tests/fuzz/fuzz_input.h"

namespace bgfs::fuse {
namespace {

// As the kernel does it, and more: every byte that is no letter.
std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      out.push_back(c);
    } else {
      absl::StrAppendFormat(&out, "\\%03o", static_cast<unsigned char>(c));
    }
  }
  return out;
}

// An entry, written again, is read as it was.
void CheckEntry(const MountEntry& entry) {
  const std::string line = absl::StrCat(
      entry.id, " ", entry.parent_id, " ", major(entry.device), ":",
      minor(entry.device), " ", Escape(entry.root), " ",
      Escape(entry.mount_point), " ", entry.options, " - ", Escape(entry.type),
      " ", Escape(entry.source), " rw,user_id=", entry.user, "\n");
  const std::vector<MountEntry> again = ParseMountInfo(line);
  ASSERT_EQ(again.size(), 1u) << line;
  EXPECT_EQ(again[0].id, entry.id);
  EXPECT_EQ(again[0].parent_id, entry.parent_id);
  EXPECT_EQ(again[0].device, entry.device);
  EXPECT_EQ(again[0].root, entry.root);
  EXPECT_EQ(again[0].mount_point, entry.mount_point);
  EXPECT_EQ(again[0].options, entry.options);
  EXPECT_EQ(again[0].type, entry.type);
  EXPECT_EQ(again[0].source, entry.source);
  EXPECT_EQ(again[0].user, entry.user);
}

}  // namespace
}  // namespace bgfs::fuse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = bgfs::FuzzInput(data, size).rest();
  const std::vector<bgfs::fuse::MountEntry> entries =
      bgfs::fuse::ParseMountInfo(text);
  EXPECT_LE(static_cast<int64_t>(entries.size()),
            1 + std::count(text.begin(), text.end(), '\n'));
  for (const auto& entry : entries) bgfs::fuse::CheckEntry(entry);
  bgfs::AbortIfFailed();
  return 0;
}
