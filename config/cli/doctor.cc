// bgfs doctor: what a mount made here would get, and what would make it better.

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "config/cli/system.h"
#include "config/cli/verb.h"

namespace bgfs::cli {
namespace {

void Print(const Verdict& verdict) {
  if (verdict.transport.empty()) {
    std::cout << "no mount works here: " << Text(verdict.reason) << "\n";
  } else {
    std::cout << "a mount made here is carried over " << verdict.transport
              << ": " << Text(verdict.reason) << "\n";
  }
  for (const Finding& finding : verdict.findings) {
    std::cout << (finding.fatal ? "missing: " : "could be better: ")
              << Text(
                     absl::StrCat(finding.lack.what, ": ", finding.lack.advice))
              << "\n";
  }
}

void PrintJson(const Verdict& verdict) {
  google::protobuf::Struct root;
  auto& fields = *root.mutable_fields();
  fields["works"].set_bool_value(!verdict.transport.empty());
  fields["transport"].set_string_value(verdict.transport);
  fields["reason"].set_string_value(Text(verdict.reason));
  auto* list = fields["findings"].mutable_list_value();
  for (const Finding& finding : verdict.findings) {
    auto& item = *list->add_values()->mutable_struct_value()->mutable_fields();
    item["fatal"].set_bool_value(finding.fatal);
    item["what"].set_string_value(Text(finding.lack.what));
    item["advice"].set_string_value(Text(finding.lack.advice));
  }
  std::string text;
  // A Struct of strings always has a JSON form.
  (void)google::protobuf::util::MessageToJsonString(root, &text);
  std::cout << text << "\n";
}

}  // namespace

ExitStatus RunDoctor(const Arguments& arguments) {
  CLI::App app(
      "Says how requests of a mount made here would be carried, and why; then, "
      "one line\nfor each thing that is missing or could be better, what to do "
      "about it. It tries:\na mount is made for a moment. Exit status 1 if no "
      "mount works here.",
      "bgfs doctor");
  bool json = false;
  app.add_flag("--json", json, "Print one JSON object");
  fuse::KernelMask mask;
  AddMaskOptions(&app, &mask);
  if (auto ended = Parse(&app, arguments)) return *ended;
  const Verdict verdict = Judge(ProbeSystem(mask));
  json ? PrintJson(verdict) : Print(verdict);
  return verdict.transport.empty() ? kFailed : kFine;
}

}  // namespace bgfs::cli
