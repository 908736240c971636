#include "tests/graph/cell_model.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"

namespace bgfs {
namespace {

constexpr int64_t kWord = sizeof(uint64_t);

// A word of the cell, in which every byte differs from write to write.
uint64_t Tag(int64_t number, int64_t cell) {
  if (number == 0) return 0;
  uint64_t value = static_cast<uint64_t>((number << 20) | cell);
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::string Describe(const CellModel::Change& change) {
  return absl::StrCat(!change.found.empty() ? "found"
                      : change.number == 0  ? "zeros"
                                            : "write",
                      " ", change.number, " from ", change.start, " to ",
                      change.certain ? absl::StrCat(change.end) : "?");
}

std::vector<int64_t> NumbersOf(int64_t content_bytes, int64_t capacity_bytes) {
  std::vector<int64_t> numbers(
      static_cast<size_t>(capacity_bytes / CellModel::kCell));
  std::fill_n(numbers.begin(), content_bytes / CellModel::kCell, 1);
  return numbers;
}

}  // namespace

CellModel::CellModel(int64_t content_bytes, int64_t capacity_bytes)
    : CellModel(NumbersOf(content_bytes, capacity_bytes)) {}

CellModel::CellModel(absl::Span<const int64_t> numbers)
    : cells_(numbers.size()) {
  std::map<int64_t, Change*> changes;
  for (size_t i = 0; i < numbers.size(); ++i) {
    BGFS_CHECK(numbers[i] <= 1);
    Change*& change = changes[numbers[i]];
    if (change == nullptr) {
      auto initial = std::make_unique<Change>();
      initial->number = numbers[i];
      initial->range = {0, capacity()};
      initial->end = 1;
      initial->certain = true;
      change = initial.get();
      changes_.push_back(std::move(initial));
    }
    cells_[i].push_back({change});
  }
}

std::string CellModel::Content(int64_t number, Range range) {
  std::string content(static_cast<size_t>(range.bytes), 0);
  for (int64_t at = 0; at < range.bytes; at += kWord) {
    const uint64_t tag = Tag(number, (range.offset + at) / kCell);
    std::memcpy(&content[static_cast<size_t>(at)], &tag, kWord);
  }
  return content;
}

CellModel::Change* CellModel::Begin(Range range, bool zeros) {
  auto change = std::make_unique<Change>();
  change->number = zeros ? 0 : next_number_++;
  change->range = range;
  change->start = Now();
  for (int64_t at = range.offset; at < std::min(range.end(), capacity());
       at += kCell) {
    cells_[static_cast<size_t>(at / kCell)].push_back({change.get()});
  }
  changes_.push_back(std::move(change));
  return changes_.back().get();
}

void CellModel::End(Change* change, bool certain, bool durable) {
  change->end = Now();
  change->certain = certain;
  change->durable = certain && durable;
  if (!certain) return;
  const Range& range = change->range;
  for (int64_t at = range.offset; at < std::min(range.end(), capacity());
       at += kCell) {
    for (Entry& entry : cells_[static_cast<size_t>(at / kCell)]) {
      if (entry.change->end >= change->start) continue;
      entry.overwritten = std::min(entry.overwritten, change->end);
    }
  }
}

std::string CellModel::ContentOf(const Change& change, int64_t cell) {
  if (change.found.empty())
    return Content(change.number, {cell * kCell, kCell});
  return change.found.substr(static_cast<size_t>(cell * kCell),
                             static_cast<size_t>(kCell));
}

// Whose words these are; of a layer below, or another cell, perhaps.
std::string CellModel::Recognize(const std::string& data) const {
  std::string text;
  uint64_t before = 0;
  for (size_t at = 0; at + kWord <= data.size(); at += kWord) {
    uint64_t word = 0;
    std::memcpy(&word, &data[at], kWord);
    if (at > 0 && word == before) continue;
    before = word;
    std::string who = absl::StrCat(" ", absl::Hex(word, absl::kZeroPad16), "?");
    for (int64_t number = -99; number < next_number_; ++number) {
      for (int64_t cell = 0; cell < std::ssize(cells_); ++cell) {
        if (number == 0 || Tag(number, cell) != word) continue;
        who = absl::StrCat(" ", number, " of cell ", cell);
      }
    }
    absl::StrAppend(&text, at == 0 ? "" : ",", word == 0 ? " zeros" : who);
  }
  return text + ";";
}

std::string CellModel::CheckCell(
    int64_t cell, const std::string& data,
    absl::FunctionRef<bool(const Entry&)> allowed) const {
  const Cell& entries = cells_[static_cast<size_t>(cell)];
  std::vector<bool> known(data.size());
  for (const Entry& entry : entries) {
    if (!allowed(entry)) continue;
    const std::string content = ContentOf(*entry.change, cell);
    if (content == data) return "";
    for (size_t i = 0; i < data.size(); ++i) {
      if (content[i] == data[i]) known[i] = true;
    }
  }
  if (std::find(known.begin(), known.end(), false) == known.end()) return "";
  std::string text = absl::StrCat("cell ", cell, " holds", Recognize(data));
  std::string allowed_text;
  std::string all;
  for (const Entry& entry : entries) {
    if (ContentOf(*entry.change, cell) == data) {
      absl::StrAppend(&text, " ", Describe(*entry.change));
    }
    absl::StrAppend(allowed(entry) ? &allowed_text : &all, "\n    ",
                    Describe(*entry.change));
  }
  return absl::StrCat(text, "\n  it may hold", allowed_text, "\n  but not",
                      all);
}

int64_t CellModel::LastDurable(int64_t cell) const {
  int64_t last = 0;
  for (const Entry& entry : cells_[static_cast<size_t>(cell)]) {
    if (entry.change->durable ||
        (entry.change->certain && entry.change->end < durable_)) {
      last = std::max(last, entry.change->start);
    }
  }
  return last;
}

std::string CellModel::CheckRead(int64_t start, int64_t offset,
                                 const std::string& data) {
  if (forgets_) return "";
  for (int64_t at = 0; at < static_cast<int64_t>(data.size()); at += kCell) {
    const std::string wrong = CheckCell(
        (offset + at) / kCell,
        data.substr(static_cast<size_t>(at), static_cast<size_t>(kCell)),
        [start](const Entry& entry) { return entry.overwritten >= start; });
    if (!wrong.empty()) {
      return absl::StrCat("a read from ", start, " to ", now_, ": ", wrong);
    }
  }
  return "";
}

std::string CellModel::CheckDurable(const std::string& content) const {
  for (int64_t at = 0; at < static_cast<int64_t>(content.size()); at += kCell) {
    const int64_t last = LastDurable(at / kCell);
    const std::string wrong = CheckCell(
        at / kCell,
        content.substr(static_cast<size_t>(at), static_cast<size_t>(kCell)),
        [last](const Entry& entry) { return entry.change->end >= last; });
    if (!wrong.empty()) {
      return absl::StrCat("flushed at ", durable_, ": ", wrong);
    }
  }
  return "";
}

void CellModel::GoOnWith(const std::string& content, bool durable) {
  BGFS_CHECK(static_cast<int64_t>(content.size()) == capacity());
  forgets_ = false;
  if (durable) {
    for (Cell& cell : cells_) cell.clear();
    changes_.clear();
  }
  Change* change = Begin({0, capacity()}, /*zeros=*/true);
  change->found = content;
  End(change, /*certain=*/true);
  if (durable) Flushed(Now());
}

}  // namespace bgfs
