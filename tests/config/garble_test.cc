// A good configuration with random damage: whatever comes of it, every mistake
// is one printable line inside the text, and what has none can be planned.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/config/check_text.h"

namespace bgfs::config {
namespace {

constexpr absl::string_view kGood = R"(# A configuration with all there is.
implicit_files: SAME_DIR
allow_implicit: "images"
nodes { node_name: "base" read_only: true raw { file { filename: "b.img" } } }
nodes {
  node_name: "top"
  force_share: true
  qcow2 {
    file { filename: "top.qcow2" locking: AUTO }
    backing: "base"
    l2_cache_size: "32M"
  }
}
nodes {
  node_name: "scratch" discard: UNMAP cache { no_flush: true }
  raw { file { filename: "s.img" cache { direct: true } } offset: "64KiB" }
}
nodes { node_name: "over" qcow2 {
  file_node: "f" backing_inline { node_name: "in" null { size: "1G" } } } }
nodes { node_name: "f" file { filename: "f.qcow2" } }
nodes { node_name: "m" memory { size: "1M" } detect_zeroes: OFF }
throttle_groups { name: "slow" limits {
  iops_total: 100 bps_read: "10M" bps_read_max: "20M" bps_read_max_length: 5 } }
nodes { node_name: "t" throttle { file_node: "m" group: "slow" } }
nodes { node_name: "u" throttle {
  file_inline { null {} } limits { iops_write: 5 iops_size: "4K" } } }
nodes { node_name: "c" copy_on_read { file_inline { read_only: false blkdebug {
  file_inline { null {} } align: "4K" max_discard: "1M"
  inject_error { operation: [READ, ZERO] error: "EIO" offset: "1K" once: true }
  inject_delay { operation: FLUSH delay_ms: 5 skip: 1 times: 2 }
  suspend { bytes: "2K" tag: "A" } } } } }
exports { id: "disk" node: "top" fuse {} }
exports { id: "s" node: "scratch" writable: true fuse { resizable: true } }
exports { id: "m" node: "m" writethrough: false
          fuse { mountpoint: "m.raw" mode: 0600 uid: 0 allow_other: false } }
)";

class Garbler {
 public:
  explicit Garbler(uint64_t seed) : random_(seed) {}

  std::string Garble(std::string text) {
    for (size_t damages = 1 + Below(4); damages > 0; --damages) Damage(&text);
    return text;
  }

 private:
  size_t Below(size_t end) { return random_() % end; }

  void Damage(std::string* text) {
    if (text->empty()) return;
    const size_t at = Below(text->size());
    const size_t length = std::min(text->size() - at, 1 + Below(40));
    switch (Below(7)) {
      case 0:
        text->erase(at, length);
        return;
      case 1:
        text->insert(Below(text->size()), text->substr(at, length));
        return;
      case 2:
        (*text)[at] = static_cast<char>(Below(256));
        return;
      case 3:
        text->resize(at);
        return;
      case 4:
        std::swap((*text)[at], (*text)[Below(text->size())]);
        return;
      case 5: {
        // One word in the place of another: still text format more often.
        const std::string from = Word(*text, at);
        const std::string to = Word(*text, Below(text->size()));
        const size_t found = text->find(from);
        if (!from.empty()) text->replace(found, from.size(), to);
        return;
      }
      default: {
        constexpr absl::string_view kPunctuation = "{}[]<>:;,\"'#\\\n\t -";
        text->insert(at, 1, kPunctuation[Below(kPunctuation.size())]);
        return;
      }
    }
  }

  static std::string Word(const std::string& text, size_t at) {
    const auto is_word = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    while (at > 0 && is_word(text[at - 1])) --at;
    return text.substr(at, end - at);
  }

  std::mt19937_64 random_;
};

TEST(GarbleTest, NeverCrashes) {
  ASSERT_FALSE(CheckText(std::string(kGood)));
  const uint64_t first = 20240;
  int wrong = 0;
  for (uint64_t seed = first; seed < first + 2000; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    if (CheckText(Garbler(seed).Garble(std::string(kGood)))) ++wrong;
    if (HasFailure()) break;
  }
  std::cout << "seeds " << first << " to " << first + 1999 << ": " << wrong
            << " of 2000 refused\n";
  EXPECT_GT(wrong, 1000);
  EXPECT_LT(wrong, 2000);
}

}  // namespace
}  // namespace bgfs::config
