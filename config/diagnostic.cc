#include "config/diagnostic.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace bgfs::config {
namespace {

constexpr size_t kQuoteLimit = 80;
// Longer names are not compared: nothing of ours is as long.
constexpr size_t kNameLimit = 64;

// Levenshtein distance.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row[b.size()];
}

// The length of the UTF-8 character at the beginning, 0 if there is none.
// Overlong forms and surrogates pass: this is about what a terminal shows.
size_t Utf8Length(absl::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  // U+0080 to U+009f are control characters as well.
  if (first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0) return 0;
  return length;
}

}  // namespace

std::string Format(absl::string_view file, const Diagnostic& diagnostic) {
  std::string prefix(file);
  if (diagnostic.at.line > 0) {
    absl::StrAppend(&prefix, ":", diagnostic.at.line, ":",
                    diagnostic.at.column);
  }
  if (!prefix.empty()) prefix += ": ";
  return prefix + diagnostic.message;
}

std::string Printable(absl::string_view text, size_t limit) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    if (result.size() >= limit) return result + "...";
    const size_t length = Utf8Length(text.substr(i));
    if (length == 0 || absl::ascii_iscntrl(text[i])) {
      result += absl::CHexEscape(text.substr(i, 1));
      ++i;
    } else {
      absl::StrAppend(&result, text.substr(i, length));
      i += length;
    }
  }
  return result;
}

std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", Printable(text, kQuoteLimit), "\"");
}

std::string DidYouMean(absl::string_view name,
                       const std::vector<std::string>& candidates) {
  if (name.size() > kNameLimit) return "";
  const std::string wanted = absl::AsciiStrToLower(name);
  // One slip in three letters is a slip; more is another word.
  size_t best = std::max<size_t>(1, name.size() / 3) + 1;
  const std::string* nearest = nullptr;
  for (const std::string& candidate : candidates) {
    const size_t lengths = candidate.size() > name.size()
                               ? candidate.size() - name.size()
                               : name.size() - candidate.size();
    if (lengths >= best) continue;
    const size_t distance = Distance(wanted, absl::AsciiStrToLower(candidate));
    // A word that shares no letter is not near, however short both are.
    if (distance >= best || distance >= wanted.size()) continue;
    best = distance;
    nearest = &candidate;
  }
  if (nearest == nullptr) return "";
  return absl::StrCat("; did you mean ", Quote(*nearest), "?");
}

}  // namespace bgfs::config
