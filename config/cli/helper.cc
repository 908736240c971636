#include "config/cli/helper.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace bgfs::cli {
namespace {

using Words = std::vector<std::string>;

// Of bgfs mount, that may stand among the options.
constexpr absl::string_view kOwn[] = {
    "format",      "resizable", "force-share", "allow-implicit",
    "passthrough", "transport", "log",         "pid-file"};

// Of bgfs mount's -o.
constexpr absl::string_view kPassed[] = {"ro",  "rw",  "allow_other",
                                         "uid", "gid", "mode"};

// For mount(8) itself; or true of every mount of bgfs, or without meaning here.
constexpr absl::string_view kLeftOut[] = {
    "defaults",   "auto",        "noauto",        "nofail",     "_netdev",
    "user",       "nouser",      "users",         "nousers",    "owner",
    "noowner",    "group",       "nogroup",       "nosuid",     "suid",
    "nodev",      "dev",         "exec",          "noexec",     "async",
    "atime",      "noatime",     "diratime",      "nodiratime", "relatime",
    "norelatime", "strictatime", "nostrictatime", "lazytime",   "nolazytime",
    "silent",     "loud",        "comment",       "uhelper"};

template <size_t n>
bool IsIn(const absl::string_view (&names)[n], absl::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool IsLeftOut(absl::string_view option, absl::string_view name) {
  return option.empty() || IsIn(kLeftOut, name) ||
         absl::StartsWith(option, "x-") || absl::StartsWith(option, "X-");
}

// At commas that stand in no double quotes, which go.
Words SplitOptions(absl::string_view text) {
  Words options(1);
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      options.emplace_back();
    } else {
      options.back() += c;
    }
  }
  return options;
}

void Translate(const Words& options, bool sloppy, Words* arguments) {
  Words passed;
  for (const std::string& option : options) {
    const absl::string_view name =
        absl::string_view(option).substr(0, option.find('='));
    const std::string own = absl::StrReplaceAll(name, {{"_", "-"}});
    if (IsIn(kOwn, own)) {
      arguments->push_back(absl::StrCat(
          "--", own, absl::string_view(option).substr(own.size())));
    } else if (IsIn(kPassed, name) || (!IsLeftOut(option, name) && !sloppy)) {
      passed.push_back(option);
    }
  }
  if (passed.empty()) return;
  arguments->push_back("-o");
  arguments->push_back(absl::StrJoin(passed, ","));
}

// The words that are no options; those of one letter are told to `on_letter`,
// with their value where `with_value` names them. False if a value is missing.
template <typename OnLetter>
bool Sort(const Words& arguments, absl::string_view with_value, Words* places,
          const OnLetter& on_letter) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word.size() < 2 || word[0] != '-') {
      places->push_back(word);
      continue;
    }
    for (size_t at = 1; at < word.size(); ++at) {
      if (!absl::StrContains(with_value, word.substr(at, 1))) {
        if (!on_letter(word[at], "")) return false;
        continue;
      }
      std::string value = word.substr(at + 1);
      if (value.empty()) {
        if (++i == arguments.size()) return false;
        value = arguments[i];
      }
      if (!on_letter(word[at], value)) return false;
      break;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<MountCall> ParseMountCall(const Words& arguments) {
  MountCall call;
  Words places;
  Words options;
  bool sloppy = false;
  const bool understood = Sort(
      arguments, "otN", &places, [&](char letter, const std::string& value) {
        if (letter == 'o') {
          const Words more = SplitOptions(value);
          options.insert(options.end(), more.begin(), more.end());
        }
        if (letter == 'r') options.push_back("ro");
        if (letter == 'w') options.push_back("rw");
        call.fake |= letter == 'f';
        call.no_utab |= letter == 'n';
        sloppy |= letter == 's';
        return absl::StrContains("otNrwfnsv", absl::string_view(&letter, 1));
      });
  if (!understood || places.size() != 2) {
    return absl::InvalidArgumentError(
        "usage: mount.fuse.bgfs IMAGE MOUNTPOINT [-sfnvrw] [-o OPTIONS]; it "
        "is called by: mount -t fuse.bgfs IMAGE MOUNTPOINT");
  }
  call.image = places[0];
  call.mount_point = places[1];
  Translate(options, sloppy, &call.arguments);
  call.arguments.push_back("--");
  call.arguments.insert(call.arguments.end(), places.begin(), places.end());
  return call;
}

absl::StatusOr<UmountCall> ParseUmountCall(const Words& arguments) {
  UmountCall call;
  Words places;
  const bool understood =
      Sort(arguments, "tN", &places,
           [&call](char letter, const std::string& /*value*/) {
             call.force |= letter == 'f';
             call.lazy |= letter == 'l';
             return absl::StrContains("tNflnrv", absl::string_view(&letter, 1));
           });
  if (!understood || places.size() != 1) {
    return absl::InvalidArgumentError(
        "usage: umount.fuse.bgfs PATH [-flnrv]; it is called by: umount PATH");
  }
  call.path = places[0];
  return call;
}

Helper HelperOf(absl::string_view command) {
  const absl::string_view name = command.substr(command.find_last_of('/') + 1);
  if (name == "mount.fuse.bgfs" || name == "mount.bgfs") return Helper::kMount;
  return name == "umount.fuse.bgfs" ? Helper::kUmount : Helper::kNone;
}

}  // namespace bgfs::cli
