// bgfs check-config: every mistake of a configuration, one a line.

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <iostream>

#include "absl/strings/str_cat.h"
#include "config/cli/verb.h"
#include "config/load.h"
#include "config/validate.h"

namespace bgfs::cli {
namespace {

void PrintJson(const config::Source& source,
               const std::vector<config::Diagnostic>& mistakes) {
  google::protobuf::Struct root;
  (*root.mutable_fields())["file"].set_string_value(source.file);
  auto* list = (*root.mutable_fields())["mistakes"].mutable_list_value();
  for (const config::Diagnostic& mistake : mistakes) {
    auto& fields =
        *list->add_values()->mutable_struct_value()->mutable_fields();
    fields["line"].set_number_value(mistake.at.line);
    fields["column"].set_number_value(mistake.at.column);
    fields["message"].set_string_value(mistake.message);
  }
  std::string text;
  // A Struct of strings and numbers always has a JSON form.
  (void)google::protobuf::util::MessageToJsonString(root, &text);
  std::cout << text << "\n";
}

}  // namespace

ExitStatus RunCheckConfig(const Arguments& arguments) {
  CLI::App app(
      "Says what is wrong with a configuration: exit status 0 and nothing, or "
      "1 and\nFILE:LINE:COLUMN: MISTAKE for each. Opens no image.",
      "bgfs check-config");
  std::string file;
  bool json = false;
  app.add_option("CONFIG", file, "The configuration (protobuf text format)")
      ->required();
  app.add_flag("--json", json, "Print the mistakes as JSON on stdout");
  if (auto ended = Parse(&app, arguments)) return *ended;

  const config::Source source = config::LoadFile(file);
  const std::vector<config::Diagnostic> mistakes = config::Validate(source);
  if (json) {
    PrintJson(source, mistakes);
  } else {
    for (const config::Diagnostic& mistake : mistakes) {
      std::cerr << config::Format(source.file, mistake) << "\n";
    }
  }
  return mistakes.empty() ? kFine : kFailed;
}

}  // namespace bgfs::cli
