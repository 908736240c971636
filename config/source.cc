#include "config/source.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace bgfs::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

constexpr int kTabWidth = 8;

// The first position that anything in the message has, or line -1.
TextFormat::ParseLocation Earliest(const Place::Tree& tree,
                                   const google::protobuf::Descriptor& type) {
  TextFormat::ParseLocation best;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const auto found = tree.GetLocation(field, field->is_repeated() ? 0 : -1);
    if (found.line < 0) continue;
    if (best.line < 0 || std::pair(found.line, found.column) <
                             std::pair(best.line, best.column)) {
      best = found;
    }
  }
  return best;
}

}  // namespace

Text::Text(std::string text) : text_(std::move(text)), lines_{0} {
  stops_.push_back({});
  for (size_t i = 0; i < text_.size(); ++i) {
    Stop next = stops_.back();
    if (text_[i] == '\n') {
      lines_.push_back(i + 1);
      next = {next.line + 1, 0, i + 1};
    } else if (text_[i] == '\t') {
      const int column = next.column + static_cast<int>(i - next.offset);
      next.column = column + kTabWidth - column % kTabWidth;
      next.offset = i + 1;
    } else {
      continue;
    }
    stops_.push_back(next);
  }
}

size_t Text::Offset(int line, int column) const {
  const auto after =
      std::upper_bound(stops_.begin(), stops_.end(), std::pair(line, column),
                       [](const std::pair<int, int>& place, const Stop& stop) {
                         return place < std::pair(stop.line, stop.column);
                       });
  if (after == stops_.begin()) return 0;
  const Stop& stop = *std::prev(after);
  const size_t end = after == stops_.end() ? text_.size() : after->offset - 1;
  if (stop.line != line) return end;
  return std::min(end, stop.offset + static_cast<size_t>(column - stop.column));
}

Position Text::At(size_t offset) const {
  const auto next = std::upper_bound(lines_.begin(), lines_.end(), offset);
  const auto line = next - lines_.begin();
  return {static_cast<int>(line),
          static_cast<int>(offset - lines_[line - 1] + 1)};
}

Place::Place(const Written* written, const Message& message)
    : written_(written), message_(&message) {
  if (written == nullptr) return;
  tree_ = &written->tree;
  start_ = {1, 1};
}

Position Place::Field(int number, int index) const {
  if (tree_ == nullptr) return start_;
  const FieldDescriptor* field =
      message_->GetDescriptor()->FindFieldByNumber(number);
  auto found = tree_->GetLocation(field, index);
  if (index >= 0 && InLists(*field)) {
    const Tree* inside = field->message_type() == nullptr
                             ? nullptr
                             : tree_->GetTreeForNested(field, index);
    if (inside != nullptr) found = Earliest(*inside, *field->message_type());
    if (found.line < 0) found = tree_->GetLocation(field, 0);
  }
  if (found.line < 0) return start_;
  const Text& text = written_->text;
  return text.At(text.Offset(found.line, found.column));
}

// A list in brackets has one location for all its values, so that locations can
// no longer be found by index.
bool Place::InLists(const FieldDescriptor& field) const {
  const int size = message_->GetReflection()->FieldSize(*message_, &field);
  return tree_->GetLocation(&field, size - 1).line < 0;
}

Place Place::In(int number, int index) const {
  Place nested;
  nested.written_ = written_;
  nested.start_ = Field(number, index);
  if (tree_ == nullptr) return nested;
  const FieldDescriptor* field =
      message_->GetDescriptor()->FindFieldByNumber(number);
  const auto* reflection = message_->GetReflection();
  nested.message_ =
      index < 0 ? &reflection->GetMessage(*message_, field)
                : &reflection->GetRepeatedMessage(*message_, field, index);
  nested.tree_ = tree_->GetTreeForNested(field, index);
  return nested;
}

Source FromMessage(proto::Config config, std::string folder) {
  Source source;
  source.config = std::move(config);
  source.folder = std::move(folder);
  return source;
}

}  // namespace bgfs::config
