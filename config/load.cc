// Protobuf's parser says what it could not read in its own words and, in many
// cases, at the token that follows the guilty one. Each of its messages that a
// user can cause by an ordinary slip is turned here into ours; one that is not
// recognised is passed on as it is, so that a newer protobuf with other words
// costs comfort and nothing else.
#include "config/load.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "google/protobuf/io/tokenizer.h"

namespace bgfs::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

// A message of ours, and the token it is about if protobuf is already past it.
struct Explained {
  std::string message;
  std::string token;
};

// Takes `prefix` and the quoted word behind it off the front of `text`.
std::optional<std::string> TakeQuoted(absl::string_view prefix,
                                      absl::string_view* text) {
  absl::string_view rest = *text;
  if (!absl::ConsumePrefix(&rest, prefix) || !absl::ConsumePrefix(&rest, "\""))
    return std::nullopt;
  const size_t end = rest.find('"');
  if (end == absl::string_view::npos) return std::nullopt;
  std::string word(rest.substr(0, end));
  *text = rest.substr(end + 1);
  return word;
}

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  names.reserve(type.field_count());
  for (int i = 0; i < type.field_count(); ++i) {
    names.push_back(type.field(i)->name());
  }
  return names;
}

// The field of that name whose type is an enum, in `type` or what is defined in
// it; null if there is none.
const FieldDescriptor* EnumField(const Descriptor& type,
                                 const std::string& name) {
  const FieldDescriptor* field = type.FindFieldByName(name);
  if (field != nullptr && field->enum_type() != nullptr) return field;
  for (int i = 0; i < type.nested_type_count(); ++i) {
    field = EnumField(*type.nested_type(i), name);
    if (field != nullptr) return field;
  }
  return nullptr;
}

// The values of the schema's enum field of that name. (One name means one enum
// wherever it stands in the schema.)
std::vector<std::string> EnumValues(absl::string_view field_name) {
  const auto* file = proto::Config::descriptor()->file();
  const std::string name(field_name);
  for (int i = 0; i < file->message_type_count(); ++i) {
    const FieldDescriptor* field = EnumField(*file->message_type(i), name);
    if (field == nullptr) continue;
    std::vector<std::string> values;
    values.reserve(field->enum_type()->value_count());
    for (int j = 0; j < field->enum_type()->value_count(); ++j) {
      values.push_back(field->enum_type()->value(j)->name());
    }
    return values;
  }
  return {};
}

std::optional<Explained> UnknownField(absl::string_view raw) {
  const auto type_name = TakeQuoted("Message type ", &raw);
  if (!type_name.has_value()) return std::nullopt;
  const auto name = TakeQuoted(" has no field named ", &raw);
  const Descriptor* type =
      proto::Config::descriptor()->file()->pool()->FindMessageTypeByName(
          *type_name);
  if (!name.has_value() || type == nullptr) return std::nullopt;
  return Explained{absl::StrCat(type->name(), " has no field ", Quote(*name),
                                DidYouMean(*name, FieldNames(*type))),
                   *name};
}

std::optional<Explained> UnknownValue(absl::string_view raw) {
  if (const auto value = TakeQuoted("Unknown enumeration value of ", &raw)) {
    const auto field = TakeQuoted(" for field ", &raw);
    if (!field.has_value()) return std::nullopt;
    const std::vector<std::string> values = EnumValues(*field);
    return Explained{
        absl::StrCat(*field, " is one of ", absl::StrJoin(values, ", "),
                     ", not ", Quote(*value), DidYouMean(*value, values)),
        *value};
  }
  if (const auto field = TakeQuoted("Invalid value for boolean field ", &raw)) {
    const auto value = TakeQuoted(". Value: ", &raw);
    if (!value.has_value()) return std::nullopt;
    return Explained{
        absl::StrCat(*field, " is true or false, not ", Quote(*value)), *value};
  }
  return std::nullopt;
}

std::optional<Explained> GivenTwice(absl::string_view raw) {
  if (const auto name = TakeQuoted("Non-repeated field ", &raw)) {
    return Explained{absl::StrCat(*name, " is given twice"), *name};
  }
  const auto name = TakeQuoted("Field ", &raw);
  if (!name.has_value()) return std::nullopt;
  const auto other = TakeQuoted(" is specified along with field ", &raw);
  if (!other.has_value()) return std::nullopt;
  return Explained{
      absl::StrCat(*name, " beside ", *other, ": only one can be given"),
      *name};
}

// Slips about what stands behind a field's name. `before` is the text up to
// the token that protobuf did not want.
std::optional<Explained> WrongShape(absl::string_view raw,
                                    absl::string_view before) {
  size_t end = before.find_last_not_of(" \t\r\n:");
  end = end == absl::string_view::npos ? 0 : end + 1;
  size_t begin = end;
  while (begin > 0 &&
         (absl::ascii_isalnum(before[begin - 1]) || before[begin - 1] == '_')) {
    --begin;
  }
  const absl::string_view name = before.substr(begin, end - begin);
  absl::string_view found = raw;
  if (absl::ConsumePrefix(&found, "Expected string, got: ") && !found.empty() &&
      absl::ascii_isdigit(found[0])) {
    return Explained{absl::StrCat(name, " is a string: write \"", found, "\""),
                     ""};
  }
  if (name == "file" && absl::StartsWith(raw, "Expected \"{\"")) {
    return Explained{
        "file is written inline, as in file { filename: \"disk.img\" }; to "
        "name a node use file_node",
        ""};
  }
  if (name == "backing" && raw == "Expected \":\", found \"{\".") {
    return Explained{
        "backing names a node; to write it inline use backing_inline", ""};
  }
  return std::nullopt;
}

Explained Explain(absl::string_view raw, absl::string_view text,
                  size_t offset) {
  if (auto explained = UnknownField(raw)) return *explained;
  if (auto explained = UnknownValue(raw)) return *explained;
  if (auto explained = GivenTwice(raw)) return *explained;
  if (auto explained = WrongShape(raw, text.substr(0, offset)))
    return *explained;
  if (absl::StartsWith(raw, "Message is too deep")) {
    return {absl::StrCat("nested more than ", kMaxNesting,
                         " levels deep: name the nodes instead"),
            ""};
  }
  if (absl::StartsWith(raw, "Interpreting non ascii codepoint")) {
    return {"only text in quotes may have characters beyond ASCII", ""};
  }
  absl::ConsumeSuffix(&raw, ".");
  if (offset == text.size() && absl::StartsWith(raw, "Expected ")) {
    return {
        "the text ends too early: a \"{\" is not closed, or a value is "
        "missing",
        ""};
  }
  return {Printable(raw), ""};
}

// Turns what the parser reports into our diagnostics.
class Collector : public google::protobuf::io::ErrorCollector {
 public:
  Collector(const Text& text, std::vector<Diagnostic>* errors)
      : text_(text), errors_(*errors) {}

  // What makes no sense as text format. All that comes after it is guesswork.
  void AddError(int line, int column, const std::string& message) override {
    if (!ended_) Add(line, column, message);
    ended_ = true;
  }

  // What the parser can go on after: an unknown field.
  void AddWarning(int line, int column, const std::string& message) override {
    if (!ended_) Add(line, column, message);
  }

 private:
  void Add(int line, int column, const std::string& message) {
    const absl::string_view text = text_.text();
    size_t offset = text_.Offset(line, column);
    // What comes next at the place of a mistake only follows from it.
    if (reported_ && offset == reported_at_) return;
    reported_ = true;
    reported_at_ = offset;
    Explained explained = Explain(message, text, offset);
    if (!explained.token.empty() && offset >= explained.token.size()) {
      const size_t token =
          text.rfind(explained.token, offset - explained.token.size());
      if (token != absl::string_view::npos) offset = token;
    }
    if (auto hyphens = Hyphens(offset)) explained.message = *hyphens;
    errors_.push_back({text_.At(offset), std::move(explained.message)});
  }

  // QAPI itself has hyphens where we have underscores.
  std::optional<std::string> Hyphens(size_t offset) const {
    const absl::string_view text = text_.text();
    size_t end = offset;
    while (end < text.size() && (absl::ascii_isalnum(text[end]) ||
                                 text[end] == '_' || text[end] == '-')) {
      ++end;
    }
    const absl::string_view word = text.substr(offset, end - offset);
    if (!absl::StrContains(word, '-')) return std::nullopt;
    const std::string name = absl::StrReplaceAll(word, {{"-", "_"}});
    const auto* file = proto::Config::descriptor()->file();
    for (int i = 0; i < file->message_type_count(); ++i) {
      if (file->message_type(i)->FindFieldByName(name) == nullptr) continue;
      return absl::StrCat("no field ", Quote(word), "; did you mean ",
                          Quote(name), "?");
    }
    return std::nullopt;
  }

  const Text& text_;
  std::vector<Diagnostic>& errors_;
  bool ended_ = false;
  bool reported_ = false;
  size_t reported_at_ = 0;
};

// The whole file, up to one byte more than a configuration may have; or errno.
struct ReadResult {
  std::string text;
  int error = 0;
};

ReadResult ReadFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return {"", errno};
  const auto closed = absl::MakeCleanup([descriptor] { close(descriptor); });
  ReadResult result;
  char buffer[16384];
  while (result.text.size() <= kMaxConfigBytes) {
    const ssize_t bytes = read(descriptor, buffer, sizeof(buffer));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return {"", errno};
    if (bytes == 0) break;
    result.text.append(buffer, static_cast<size_t>(bytes));
  }
  return result;
}

Source Unreadable(std::string file, std::string message) {
  Source source;
  source.file = std::move(file);
  source.parsed = false;
  source.errors.push_back({{}, std::move(message)});
  return source;
}

}  // namespace

Source LoadFile(const std::string& path) {
  const ReadResult read = ReadFile(path);
  if (read.error != 0) {
    return Unreadable(path, absl::StrCat("cannot read the configuration: ",
                                         std::strerror(read.error)));
  }
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (error) {
    return Unreadable(path, absl::StrCat("cannot tell the current folder: ",
                                         error.message()));
  }
  return LoadText(read.text, path, absolute.parent_path().string());
}

Source LoadText(absl::string_view text, std::string file, std::string folder) {
  if (text.size() > kMaxConfigBytes) {
    return Unreadable(
        std::move(file),
        absl::StrCat("longer than ", kMaxConfigBytes,
                     " bytes, the most that a configuration may have"));
  }
  auto written = std::make_shared<Written>(std::string(text));
  Source source;
  source.file = std::move(file);
  source.folder = std::move(folder);
  Collector collector(written->text, &source.errors);
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.WriteLocationsTo(&written->tree);
  parser.SetRecursionLimit(kMaxNesting);
  parser.AllowUnknownField(true);
  source.parsed = parser.ParseFromString(written->text.text(), &source.config);
  source.written = std::move(written);
  return source;
}

}  // namespace bgfs::config
