#include "config/size.h"

#include <cctype>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "config/diagnostic.h"

namespace bgfs::config {
namespace {

// The power of two that a unit stands for, or -1.
int UnitShift(absl::string_view unit) {
  if (unit.empty()) return 0;
  constexpr absl::string_view kLetters = "KMGTPE";
  const auto letter = kLetters.find(
      static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
  if (letter == absl::string_view::npos) return -1;
  const absl::string_view rest = unit.substr(1);
  if (!rest.empty() && rest != "B" && rest != "iB") return -1;
  return 10 * (static_cast<int>(letter) + 1);
}

}  // namespace

absl::StatusOr<int64_t> ParseSize(absl::string_view text) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t number = 0;
  bool too_large = false;
  size_t end = 0;
  for (; end < text.size() && text[end] >= '0' && text[end] <= '9'; ++end) {
    const int digit = text[end] - '0';
    too_large = too_large || number > (kMax - digit) / 10;
    if (!too_large) number = number * 10 + digit;
  }
  const int shift = UnitShift(text.substr(end));
  if (end == 0 || shift < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quote(text), " is not a size: write bytes, or a number with K, M, G, ",
        "T, P or E, as in \"64K\""));
  }
  if (too_large || number > (kMax >> shift)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text), " is too large: sizes end below \"8E\""));
  }
  return number << shift;
}

}  // namespace bgfs::config
