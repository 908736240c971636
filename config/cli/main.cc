// The bgfs command. Each verb is a file of its own beside this one, and a line
// in the table below.

#include <csignal>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/cli/describe.h"
#include "config/cli/helper.h"
#include "config/cli/verb.h"
#include "config/cli/version.h"
#include "config/diagnostic.h"

namespace bgfs::cli {
namespace {

struct Verb {
  const char* name;
  const char* summary;
  ExitStatus (*run)(const Arguments& arguments);
};

constexpr Verb kVerbs[] = {
    {"mount", "show a disk image as a raw file", RunMount},
    {"serve", "show every export of a configuration", RunServe},
    {"apply", "make a running daemon what another configuration says",
     RunApply},
    {"node", "add, remove, reopen, replace, insert or drop one node", RunNode},
    {"export", "add or remove one export", RunExport},
    {"resize", "give what is shown another size", RunResize},
    {"graph", "the live graph: nodes, edges, rights", RunGraph},
    {"umount", "end a mount; returns when everything is durable", RunUmount},
    {"status", "what is shown, and where", RunStatus},
    {"stats", "what exports and nodes have done, and how fast", RunStats},
    {"events", "what happens, as it happens", RunEvents},
    {"check", "say whether a qcow2 image is damaged, and repair it", RunCheck},
    {"check-config", "say what is wrong with a configuration", RunCheckConfig},
    {"doctor", "say how a mount would work here, and what is missing",
     RunDoctor},
};

const Verb* FindVerb(absl::string_view name) {
  for (const Verb& verb : kVerbs) {
    if (name == verb.name) return &verb;
  }
  return nullptr;
}

ExitStatus PrintHelp() {
  std::cout << "bgfs shows block graphs (qcow2 chains, raw images) as plain "
               "files.\n\nUsage: bgfs VERB [OPTIONS] ...\n\n";
  for (const Verb& verb : kVerbs) {
    std::cout << absl::StreamFormat("  %-14s %s\n", verb.name, verb.summary);
  }
  std::cout << absl::StreamFormat("  %-14s %s\n", "help VERB",
                                  "the options of a verb");
  std::cout << "\nbgfs --version tells the version. Exit status: 0 fine, "
               "1 failed, 2 wrong usage.\n";
  return kFine;
}

// bgfs help --man [VERB], bgfs help --words [VERB [SUBCOMMAND]]: for the pages
// of man(1), and for shells.
ExitStatus PrintDescription(const Arguments& arguments) {
  const bool man = arguments.front() == "--man";
  if (arguments.size() > 1) {
    const Verb* verb = FindVerb(arguments[1]);
    if (verb == nullptr) return kFailed;
    if (man) return verb->run({absl::StrCat(kManArgument, verb->summary)});
    Arguments words = {std::string(kWordsArgument)};
    words.insert(words.end(), arguments.begin() + 2, arguments.end());
    return verb->run(words);
  }
  std::vector<std::pair<std::string, std::string>> verbs;
  for (const Verb& verb : kVerbs) {
    verbs.emplace_back(verb.name, verb.summary);
    if (!man) std::cout << verb.name << "\n";
  }
  if (man) std::cout << ManPageOfAll(verbs);
  return kFine;
}

ExitStatus FailVerb(const std::string& name) {
  std::vector<std::string> names = {"help"};
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  Note(absl::StrCat("no verb ", config::Quote(name),
                    config::DidYouMean(name, names), "; see: bgfs help"));
  return kWrongUsage;
}

ExitStatus Run(Arguments arguments) {
  if (arguments.empty()) {
    Note("no verb given; see: bgfs help");
    return kWrongUsage;
  }
  const std::string name = arguments.front();
  arguments.erase(arguments.begin());
  if (name == "--version") {
    std::cout << "bgfs " << kVersion << "\n";
    return kFine;
  }
  if (name == "help" && !arguments.empty() &&
      (arguments.front() == "--man" || arguments.front() == "--words")) {
    return PrintDescription(arguments);
  }
  if (name == "help" && !arguments.empty()) {
    const Verb* verb = FindVerb(arguments.front());
    return verb == nullptr ? FailVerb(arguments.front())
                           : verb->run({"--help"});
  }
  if (name == "help" || name == "--help" || name == "-h") return PrintHelp();
  const Verb* verb = FindVerb(name);
  return verb == nullptr ? FailVerb(name) : verb->run(arguments);
}

}  // namespace
}  // namespace bgfs::cli

int main(int argc, char** argv) {
  // Whoever reads us may go; that is an error of a write, not the end.
  std::signal(SIGPIPE, SIG_IGN);
  // So is a write past the limit of file sizes (ulimit -f): EFBIG.
  std::signal(SIGXFSZ, SIG_IGN);
  // Whoever started us may have ignored it; then nobody learns how a child of
  // ours has ended.
  std::signal(SIGCHLD, SIG_DFL);
  const bgfs::cli::Arguments arguments(argv + 1, argv + argc);
  const bgfs::cli::Helper helper = bgfs::cli::HelperOf(argc > 0 ? argv[0] : "");
  if (helper != bgfs::cli::Helper::kNone) {
    return bgfs::cli::RunHelper(helper, arguments);
  }
  return bgfs::cli::Run(arguments);
}
