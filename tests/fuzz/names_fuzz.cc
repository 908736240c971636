// Any bytes as the name, and as the format, of a backing file.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "drivers/implicit.h"
#include "drivers/quote.h"
#include "tests/fuzz/fuzz_input.h"

namespace bgfs {
namespace {

bool IsFormat(absl::string_view format) {
  return format == "raw" || format == "qcow2";
}

// An error is one phrase of printable text, whatever the name holds.
void CheckError(const absl::Status& status) {
  EXPECT_FALSE(status.message().empty());
  for (const char c : status.message()) {
    EXPECT_FALSE(absl::ascii_iscntrl(static_cast<unsigned char>(c)))
        << status.message();
  }
}

void CheckName(absl::string_view name) {
  const absl::StatusOr<ImplicitImage> image = ParseImageName(name);
  if (!image.ok()) return CheckError(image.status());
  EXPECT_FALSE(image->filename.empty());
  EXPECT_EQ(image->filename.find('\0'), std::string::npos);
  EXPECT_TRUE(image->format.empty() || IsFormat(image->format));
  if (!absl::StartsWith(name, "json:") && !absl::StartsWith(name, "file:")) {
    EXPECT_EQ(image->filename, name);
  }

  const std::string place = LocateImplicit("/images/top", image->filename);
  EXPECT_TRUE(absl::StartsWith(place, "/"));
  EXPECT_TRUE(absl::EndsWith(place, image->filename));
  // Named so that it cannot be anything else, it is the same file.
  const auto again = ParseImageName(absl::StrCat("file:", image->filename));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->filename, image->filename);

  const std::string word = ShellWord(image->filename);
  for (const char c : word) {
    EXPECT_TRUE(absl::ascii_isprint(static_cast<unsigned char>(c))) << word;
  }
}

void CheckFormat(absl::string_view format) {
  const absl::StatusOr<std::string> known = ParseImageFormat(format);
  if (!known.ok()) return CheckError(known.status());
  EXPECT_TRUE(IsFormat(*known));
}

}  // namespace
}  // namespace bgfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = bgfs::FuzzInput(data, size).rest();
  bgfs::CheckName(text);
  bgfs::CheckFormat(text);
  bgfs::AbortIfFailed();
  return 0;
}
