#include "config/cli/describe.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "config/cli/version.h"

namespace bgfs::cli {
namespace {

// Text that troff takes as it stands; a line must not begin like a request.
std::string Troff(absl::string_view text) {
  std::string escaped =
      absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}, {"\n", " "}});
  if (absl::StartsWith(escaped, ".") || absl::StartsWith(escaped, "'")) {
    escaped.insert(0, "\\&");
  }
  return escaped;
}

std::string Bold(absl::string_view text) {
  return absl::StrCat("\\fB", Troff(text), "\\fR");
}

std::string Head(absl::string_view name, absl::string_view summary) {
  return absl::StrCat(".TH ", absl::AsciiStrToUpper(name), " 1 \"\" \"bgfs ",
                      kVersion, "\"\n.SH NAME\n", Troff(name), " \\- ",
                      Troff(summary), "\n");
}

// Those that help shows.
std::vector<const CLI::Option*> OptionsOf(const CLI::App& app) {
  return app.get_options(
      [](const CLI::Option* option) { return !option->get_group().empty(); });
}

std::vector<const CLI::App*> SubcommandsOf(const CLI::App& app) {
  return app.get_subcommands(
      [](const CLI::App* each) { return !each->get_name().empty(); });
}

std::string Positional(const CLI::Option& option) {
  const std::string name = option.get_name(/*positional=*/true);
  return option.get_required() ? name : absl::StrCat("[", name, "]");
}

std::string Synopsis(const CLI::App& app, absl::string_view name) {
  std::string line = absl::StrCat(Bold(name), " [", "\\fIOPTIONS\\fR", "]");
  for (const CLI::Option* option : OptionsOf(app)) {
    if (option->get_positional()) {
      absl::StrAppend(&line, " ", Troff(Positional(*option)));
    }
  }
  return line;
}

void AppendOptions(const CLI::App& app, std::string* page) {
  for (const CLI::Option* option : OptionsOf(app)) {
    std::string name = option->get_name(option->get_positional(),
                                        /*all_options=*/true);
    if (option->get_positional()) name = Positional(*option);
    std::string type;
    if (!option->get_positional() && option->get_expected_max() > 0) {
      type = absl::StrCat(" ", option->get_type_name());
    }
    absl::StrAppend(page, ".TP\n", Bold(name), Troff(type), "\n",
                    Troff(option->get_description()), "\n");
  }
}

constexpr char kSeeAlso[] =
    ".SH EXIT STATUS\n0 fine, 1 failed, 2 wrong usage; what differs from it is "
    "said above.\n.SH SEE ALSO\n";

}  // namespace

std::string ManPage(const CLI::App& app, absl::string_view summary) {
  const std::string& name = app.get_name();
  const std::string dashed = absl::StrReplaceAll(name, {{" ", "-"}});
  std::string page = absl::StrCat(Head(dashed, summary), ".SH SYNOPSIS\n");
  const std::vector<const CLI::App*> subcommands = SubcommandsOf(app);
  if (subcommands.empty()) absl::StrAppend(&page, Synopsis(app, name), "\n");
  for (const CLI::App* each : subcommands) {
    absl::StrAppend(&page, Synopsis(*each, name + " " + each->get_name()),
                    "\n.br\n");
  }
  absl::StrAppend(&page, ".SH DESCRIPTION\n", Troff(app.get_description()),
                  "\n");
  if (subcommands.empty()) {
    absl::StrAppend(&page, ".SH OPTIONS\n");
    AppendOptions(app, &page);
  }
  for (const CLI::App* each : subcommands) {
    absl::StrAppend(&page, ".SH ", absl::AsciiStrToUpper(each->get_name()),
                    "\n", Bold(name + " " + each->get_name()), " ",
                    Troff(each->get_description()), ".\n");
    AppendOptions(*each, &page);
  }
  absl::StrAppend(&page, kSeeAlso, "bgfs(1), bgfs\\-config(5)\n");
  return page;
}

std::string ManPageOfAll(
    const std::vector<std::pair<std::string, std::string>>& verbs) {
  std::string page = absl::StrCat(
      Head("bgfs", "block graphs as plain files"), ".SH SYNOPSIS\n",
      Bold("bgfs"), " \\fIVERB\\fR [\\fIOPTIONS\\fR] ...\n",
      ".SH DESCRIPTION\n",
      Troff("Shows block graphs (qcow2 chains, raw images, filters over them) "
            "as plain files that any program can read and write. Each verb has "
            "a page of its own."),
      "\n.SH VERBS\n");
  std::vector<std::string> pages;
  for (const auto& [name, summary] : verbs) {
    absl::StrAppend(&page, ".TP\n", Bold(name), "\n", Troff(summary), "\n");
    pages.push_back(absl::StrCat("bgfs\\-", Troff(name), "(1)"));
  }
  absl::StrAppend(&page, kSeeAlso, absl::StrJoin(pages, ", "),
                  ", bgfs\\-config(5)\n");
  return page;
}

std::string Words(const CLI::App& app, const std::string& subcommand) {
  const CLI::App* from = &app;
  std::string words;
  for (const CLI::App* each : SubcommandsOf(app)) {
    if (each->get_name() == subcommand) from = each;
    if (subcommand.empty()) absl::StrAppend(&words, each->get_name(), "\n");
  }
  for (const CLI::Option* option : OptionsOf(*from)) {
    for (const std::string& name : option->get_lnames()) {
      absl::StrAppend(&words, "--", name, "\n");
    }
    for (const std::string& name : option->get_snames()) {
      absl::StrAppend(&words, "-", name, "\n");
    }
  }
  return words;
}

}  // namespace bgfs::cli
