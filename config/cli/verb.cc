#include "config/cli/verb.h"

#include <google/protobuf/util/json_util.h>

#include <cstdio>
#include <filesystem>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "config/cli/describe.h"
#include "config/diagnostic.h"

namespace bgfs::cli {
namespace {

// A message may quote a long list of processes; a line has an end all the same.
constexpr size_t kMaxLine = 4096;

// Whether it was asked for a page or for words, which are printed.
bool Describes(const CLI::App& app, const Arguments& arguments) {
  if (arguments.empty()) return false;
  absl::string_view first = arguments.front();
  if (absl::ConsumePrefix(&first, kManArgument)) {
    std::cout << ManPage(app, first);
    return true;
  }
  if (first != kWordsArgument) return false;
  std::cout << Words(app, arguments.size() > 1 ? arguments[1] : "");
  return true;
}

}  // namespace

std::optional<ExitStatus> Parse(CLI::App* app, const Arguments& arguments) {
  app->get_formatter()->column_width(28);
  if (Describes(*app, arguments)) return kFine;
  try {
    // CLI11 takes them off the end.
    app->parse(Arguments(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    std::cout << app->help();
    return kFine;
  } catch (const CLI::ParseError& error) {
    const std::string& name = app->get_name();
    return FailUsage(absl::string_view(name).substr(name.find(' ') + 1),
                     error.what());
  }
  return std::nullopt;
}

void AddMaskOptions(CLI::App* app, fuse::KernelMask* mask) {
  app->add_option("--mask-init-flags", mask->init_flags)->group("");
  app->add_option("--mask-minor", mask->max_minor)->group("");
}

void Note(absl::string_view message) {
  const std::string line = absl::StrCat("bgfs: ", Text(message), "\n");
  std::fputs(line.c_str(), stderr);
}

std::string Text(absl::string_view text) {
  return config::Printable(text, kMaxLine);
}

ExitStatus Fail(absl::string_view message) {
  Note(message);
  return kFailed;
}

ExitStatus Fail(const absl::Status& status) { return Fail(status.message()); }

ExitStatus FailUsage(absl::string_view verb, absl::string_view message) {
  Note(absl::StrCat(verb, ": ", message, "; see: bgfs help ", verb));
  return kWrongUsage;
}

std::string Json(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(message, &text, options);
  return text;
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.string();
}

}  // namespace bgfs::cli
