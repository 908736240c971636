#include "config/validate_throttle.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "config/size.h"

namespace bgfs::config {
namespace {

using google::protobuf::FieldDescriptor;
using proto::Throttle;
using proto::ThrottleGroup;
using proto::ThrottleLimits;

// QEMU's. Of a rate, and of what may pass in a burst.
constexpr int64_t kMostUnits = 1000000000000000;
// The search for a near name looks at every group.
constexpr int kMaxSuggestions = 20;

// One ThrottleLimits message.
class LimitsChecker {
 public:
  // `who` has the limits. `complete`: what is not there is missing.
  LimitsChecker(const ThrottleLimits& limits, Place place, std::string who,
                bool complete, std::vector<Diagnostic>* mistakes)
      : limits_(limits),
        place_(place),
        who_(std::move(who)),
        complete_(complete),
        mistakes_(mistakes) {}

  void Check() {
    const bool iops = CheckUnit("iops");
    CheckUnit("bps");
    const std::optional<int64_t> size = Value("iops_size");
    if (size.value_or(0) > 0 && !iops && complete_) {
      Report("iops_size", " without a limit of iops; add one, or drop it");
    }
  }

 private:
  // Whether anything is limited.
  bool CheckUnit(absl::string_view unit) {
    const std::string total = absl::StrCat(unit, "_total");
    const bool all = CheckRate(total);
    bool any = all;
    bool told = false;
    for (const absl::string_view kind : {"_read", "_write"}) {
      const std::string name = absl::StrCat(unit, kind);
      const bool limited = CheckRate(name);
      any = any || limited;
      if (!limited || !all || told) continue;
      told = true;
      Report(total, " beside ", name,
             "; limit all together, or reads and writes");
    }
    return any;
  }

  // Whether this is limited.
  bool CheckRate(const std::string& name) {
    const std::string max_name = absl::StrCat(name, "_max");
    const std::optional<int64_t> average = Value(name);
    const std::optional<int64_t> max = Value(max_name);
    if (average && max && *max > 0) {
      if (*average == 0 && complete_) {
        Report(max_name, " without ", name, ", which it exceeds; add that");
      } else if (*max < *average) {
        Report(max_name, " is less than ", name, "; make it more, or drop it");
      }
    }
    CheckLength(max_name, max);
    return !average || *average > 0;
  }

  void CheckLength(const std::string& max_name, std::optional<int64_t> max) {
    const std::string name = absl::StrCat(max_name, "_length");
    if (!Has(name)) return;
    const int64_t length =
        ThrottleLimits::GetReflection()->GetInt64(limits_, Field(name));
    if (length < 1) {
      Report(name, " ", length, " is no time; give 1 second or more");
    } else if (max && *max == 0) {
      if (complete_) Report(name, " without ", max_name, "; add that");
    } else if (max && *max > kMostUnits / length) {
      Report(name, " ", length, " is too long: a burst may let pass ",
             kMostUnits, " at most");
    }
  }

  static const FieldDescriptor* Field(const std::string& name) {
    return ThrottleLimits::descriptor()->FindFieldByName(name);
  }

  bool Has(const std::string& name) const {
    return ThrottleLimits::GetReflection()->HasField(limits_, Field(name));
  }

  // Of an amount; 0 if absent, none if it is wrong.
  std::optional<int64_t> Value(const std::string& name) {
    if (!Has(name)) return 0;
    const auto& reflection = *ThrottleLimits::GetReflection();
    const FieldDescriptor* field = Field(name);
    int64_t value = 0;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      const auto size = ParseSize(reflection.GetString(limits_, field));
      if (!size.ok()) {
        Report(name, " ", size.status().message());
        return std::nullopt;
      }
      value = *size;
    } else {
      value = reflection.GetInt64(limits_, field);
    }
    if (value >= 0 && value <= kMostUnits) return value;
    if (value < 0) {
      Report(name, " ", value, " is negative; give 0 or more");
    } else {
      Report(name, " ", value, " is too much; ", kMostUnits, " is the most");
    }
    return std::nullopt;
  }

  // At the field `name`.
  template <typename... Parts>
  void Report(const std::string& name, const Parts&... parts) {
    mistakes_->push_back({place_.Field(Field(name)->number()),
                          absl::StrCat(who_, ": ", name, parts...)});
  }

  const ThrottleLimits& limits_;
  const Place place_;
  const std::string who_;
  const bool complete_;
  std::vector<Diagnostic>* const mistakes_;
};

class Checker {
 public:
  Checker(const Source& source, const FlatGraph& graph,
          std::vector<Diagnostic>* mistakes)
      : source_(source),
        graph_(graph),
        complete_(source.errors.empty()),
        mistakes_(mistakes) {}

  void Check() {
    for (int i = 0; i < source_.config.throttle_groups_size(); ++i) {
      CheckGroup(
          source_.config.throttle_groups(i),
          source_.place().In(proto::Config::kThrottleGroupsFieldNumber, i));
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].node.has_throttle()) CheckNode(static_cast<int>(i));
    }
  }

 private:
  void CheckGroup(const ThrottleGroup& group, const Place& place) {
    const Position at = place.Field(ThrottleGroup::kNameFieldNumber);
    std::string who = "a throttle group";
    if (!group.has_name()) {
      if (complete_) Report(place.start(), who, " needs a name");
    } else if (group.name().empty()) {
      Report(at, who, " has an empty name");
    } else {
      who = absl::StrCat("throttle group ", Quote(group.name()));
      const auto [first, added] = groups_.try_emplace(group.name(), at);
      if (!added) {
        const int line = first->second.line;
        Report(at, who, " is defined twice",
               line == 0 ? "" : absl::StrCat("; first on line ", line));
      }
    }
    CheckLimits(group.limits(), place.In(ThrottleGroup::kLimitsFieldNumber),
                std::move(who));
  }

  void CheckNode(int index) {
    const FlatNode& flat = graph_.nodes[index];
    const Throttle& throttle = flat.node.throttle();
    const std::string who = graph_.Describe(index);
    switch (throttle.limiter_case()) {
      case Throttle::kGroup:
        if (groups_.contains(throttle.group()) || !complete_) return;
        Report(flat.driver.Field(Throttle::kGroupFieldNumber), who,
               ": no throttle group is called ", Quote(throttle.group()),
               NearestGroup(throttle.group()));
        return;
      case Throttle::kLimits:
        CheckLimits(throttle.limits(),
                    flat.driver.In(Throttle::kLimitsFieldNumber), who);
        return;
      case Throttle::LIMITER_NOT_SET:
        if (complete_) {
          Report(flat.driver.start(), who, " needs a group or limits");
        }
        return;
    }
  }

  void CheckLimits(const ThrottleLimits& limits, const Place& place,
                   std::string who) {
    LimitsChecker(limits, place, std::move(who), complete_, mistakes_).Check();
  }

  std::string NearestGroup(absl::string_view name) {
    if (suggestions_++ >= kMaxSuggestions) return "";
    std::vector<std::string> names;
    for (const ThrottleGroup& group : source_.config.throttle_groups()) {
      names.push_back(group.name());
    }
    return DidYouMean(name, names);
  }

  template <typename... Parts>
  void Report(Position at, const Parts&... parts) {
    mistakes_->push_back({at, absl::StrCat(parts...)});
  }

  const Source& source_;
  const FlatGraph& graph_;
  const bool complete_;
  // Where each was defined first.
  absl::flat_hash_map<std::string, Position> groups_;
  int suggestions_ = 0;
  std::vector<Diagnostic>* const mistakes_;
};

}  // namespace

void CheckThrottles(const Source& source, const FlatGraph& graph,
                    std::vector<Diagnostic>* mistakes) {
  Checker(source, graph, mistakes).Check();
}

}  // namespace bgfs::config
