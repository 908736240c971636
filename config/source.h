// A configuration as it was given: the message, and where each of its fields
// was written, so that a mistake found later still has a line and a column.
#ifndef BGFS_CONFIG_SOURCE_H_
#define BGFS_CONFIG_SOURCE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "config/diagnostic.h"
#include "google/protobuf/text_format.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

// A text and the lines it consists of.
//
// Protobuf counts lines and columns from 0 and lets a tab reach to the next
// multiple of 8; we count both from 1, and columns in bytes, as compilers and
// editors do.
class Text {
 public:
  explicit Text(std::string text);

  const std::string& text() const { return text_; }
  // The byte that protobuf calls so; the nearest one if there is no such place.
  size_t Offset(int line, int column) const;
  // `offset` may be the end of the text.
  Position At(size_t offset) const;

 private:
  // A place from which protobuf's columns run on as bytes do: the beginning of
  // a line, or what follows a tab.
  struct Stop {
    int line = 0;
    int column = 0;
    size_t offset = 0;
  };

  std::string text_;
  std::vector<size_t> lines_;  // Where each begins.
  std::vector<Stop> stops_;    // In order.
};

// What protobuf noted while it parsed a text.
struct Written {
  explicit Written(std::string text) : text(std::move(text)) {}

  Text text;
  google::protobuf::TextFormat::ParseInfoTree tree;
};

// Where one message was written. Copies are cheap; the message and the
// Written must outlive them. Without a Written every position is {0, 0}.
class Place {
 public:
  using Tree = google::protobuf::TextFormat::ParseInfoTree;
  using Message = google::protobuf::Message;

  Place() = default;
  // The whole text.
  Place(const Written* written, const Message& message);

  // Where the message begins: at its field's name.
  Position start() const { return start_; }
  // Where a field of it begins, by number (proto::Node::kRawFieldNumber); for a
  // repeated field, the value `index`. Its own beginning where the field was
  // not written.
  Position Field(int number, int index = -1) const;
  // The place of a message in it.
  Place In(int number, int index = -1) const;

 private:
  bool InLists(const google::protobuf::FieldDescriptor& field) const;

  const Written* written_ = nullptr;
  const Tree* tree_ = nullptr;
  const Message* message_ = nullptr;
  Position start_;
};

// What Validate and MakePlan take. Made by LoadFile and LoadText from a text,
// and by FromMessage from what a command line says.
struct Source {
  // The root's place.
  Place place() const { return Place(written.get(), config); }

  proto::Config config;
  // What messages call it; empty if it is no file.
  std::string file;
  // Absolute; relative file names begin here.
  std::string folder;
  // Null if it is no text.
  std::shared_ptr<const Written> written;
  // What the text itself has wrong. Validate reports it with the rest.
  std::vector<Diagnostic> errors;
  // Whether the text was read to its end. If not, `config` has only a part.
  bool parsed = true;
};

Source FromMessage(proto::Config config, std::string folder);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_SOURCE_H_
