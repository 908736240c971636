#include "config/difference.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/diagnostic.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/util/message_differencer.h"

namespace bgfs::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;
using proto::Node;

// A child as a driver's message names it, or null. Children are the fields that
// Link() of plan.cc sets.
const std::string* ChildOf(const Node& node, const std::string& child) {
  const FieldDescriptor* driver = node.GetReflection()->GetOneofFieldDescriptor(
      node, Node::descriptor()->FindOneofByName("driver"));
  if (driver == nullptr) return nullptr;
  const Message& message = node.GetReflection()->GetMessage(node, driver);
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(
      child == "file" ? "file_node" : child);
  if (field == nullptr || !message.GetReflection()->HasField(message, field)) {
    return nullptr;
  }
  return &message.GetReflection()->GetStringReference(message, field, nullptr);
}

void SetChild(Node* node, const std::string& child, const std::string* name) {
  const FieldDescriptor* driver =
      node->GetReflection()->GetOneofFieldDescriptor(
          *node, Node::descriptor()->FindOneofByName("driver"));
  Message* message = node->GetReflection()->MutableMessage(node, driver);
  const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(
      child == "file" ? "file_node" : child);
  if (field == nullptr) return;
  if (name == nullptr) {
    message->GetReflection()->ClearField(message, field);
  } else {
    message->GetReflection()->SetString(message, field, *name);
  }
}

const char* const kChildren[] = {"file", "backing"};

// Without its children, and without what the engine does by itself.
Node DriverSettings(Node node, bool with_node_options) {
  for (const char* child : kChildren) SetChild(&node, child, nullptr);
  node.clear_node_name();
  if (with_node_options) return node;
  node.clear_discard();
  node.clear_detect_zeroes();
  node.clear_write_threshold();
  node.mutable_cache()->clear_no_flush();
  // Absent is what the default says.
  node.mutable_cache()->set_direct(node.cache().direct());
  return node;
}

bool Same(const Message& a, const Message& b) {
  return MessageDifferencer::Equivalent(a, b);
}

std::string DriverName(const Node& node) {
  return node.GetReflection()
      ->GetOneofFieldDescriptor(node,
                                Node::descriptor()->FindOneofByName("driver"))
      ->name();
}

class Comparer {
 public:
  Comparer(const LivePlan& live, const Plan& wanted)
      : live_(live), wanted_(wanted) {
    for (const OpenNode& node : live.nodes) live_nodes_[node.key] = &node;
  }

  absl::StatusOr<Change> Run() {
    change_.result.parts = live_.parts;
    if (absl::Status status = MatchParts(); !status.ok()) return status;
    for (const Step& step : wanted_.steps) {
      const auto* node = std::get_if<OpenNode>(&step);
      if (node == nullptr) continue;
      if (absl::Status status = Match(*node); !status.ok()) return status;
    }
    for (const OpenNode& node : live_.nodes) {
      if (kept_.contains(node.key)) continue;
      change_.closes.push_back(node);
    }
    MatchExports();
    MatchGroups();
    return std::move(change_);
  }

 private:
  // Nodes keep their part; those that are new have that of what they are
  // connected with, or one of their own. Where parts become connected, those
  // without exports are opened anew in the one that has some.
  absl::Status MatchParts() {
    std::set<int> shown;
    for (const AddExport& item : live_.exports) shown.insert(item.part);
    std::map<int, std::string> known_by;
    for (const Step& step : wanted_.steps) {
      const auto* node = std::get_if<OpenNode>(&step);
      if (node == nullptr) continue;
      const auto found = live_nodes_.find(node->key);
      if (found == live_nodes_.end()) continue;
      const int live_part = found->second->part;
      const auto [part, is_new] = parts_.try_emplace(node->part, live_part);
      if (!is_new && part->second != live_part) {
        if (shown.contains(part->second) && shown.contains(live_part)) {
          return absl::UnimplementedError(absl::StrCat(
              "nodes ", Quote(known_by[node->part]), " and ", Quote(node->key),
              " would be connected, and clients use both at homes of their "
              "own; "
              "a running bgfs cannot join them yet: start it anew with this "
              "configuration"));
        }
        if (!shown.contains(live_part)) continue;
        part->second = live_part;
      }
      known_by[node->part] = node->key;
    }
    return absl::OkStatus();
  }

  int PartOf(int wanted_part) {
    const auto [part, is_new] =
        parts_.try_emplace(wanted_part, change_.result.parts);
    if (is_new) ++change_.result.parts;
    return part->second;
  }

  absl::Status Match(OpenNode node) {
    node.part = PartOf(node.part);
    const std::string generated = node.node.node_name();
    for (const char* child : kChildren) {
      const std::string* name = ChildOf(node.node, child);
      if (name == nullptr) continue;
      const auto known = names_.find(*name);
      if (known != names_.end()) SetChild(&node.node, child, &known->second);
    }
    const auto found = live_nodes_.find(node.key);
    if (found != live_nodes_.end() && found->second->part != node.part &&
        node.node.has_memory()) {
      return absl::UnimplementedError(absl::StrCat(
          "node ", Quote(node.key),
          ": a memory node cannot move to the home of ",
          "what would stand on it, which would lose what is in it"));
    }
    if (found == live_nodes_.end() || found->second->part != node.part) {
      change_.opens.push_back(node);
      change_.result.nodes.push_back(node);
      return absl::OkStatus();
    }
    const OpenNode& was = *found->second;
    if (was.node.driver_case() != node.node.driver_case()) {
      return Replace(was, node, generated);
    }
    kept_.insert(node.key);
    names_[generated] = was.node.node_name();
    node.node.set_node_name(was.node.node_name());
    node.copies = was.copies;
    node.named_copies = was.named_copies;
    if (absl::Status s = CompareNode(was, node); !s.ok()) return s;
    change_.result.nodes.push_back(std::move(node));
    return absl::OkStatus();
  }

  // The new one has the old one's name in the end.
  absl::Status Replace(const OpenNode& was, OpenNode node,
                       const std::string& generated) {
    const std::string name = was.node.node_name();
    if (generated == name) {
      return absl::UnimplementedError(
          absl::StrCat("node ", Quote(name), ": its driver cannot change from ",
                       DriverName(was.node), " to ", DriverName(node.node),
                       "; give the new node another name"));
    }
    change_.opens.push_back(node);
    changed_.insert(generated);
    change_.result.nodes.push_back(std::move(node));
    return absl::OkStatus();
  }

  absl::Status CompareNode(const OpenNode& was, const OpenNode& node) {
    const std::string& name = node.node.node_name();
    bool other_file = false;
    for (const char* child : kChildren) {
      const std::string* from = ChildOf(was.node, child);
      const std::string* to = ChildOf(node.node, child);
      if (to != nullptr && absl::string_view(child) == "file" &&
          changed_.contains(*to)) {
        other_file = true;
      }
      if ((from == nullptr ? "" : *from) == (to == nullptr ? "" : *to))
        continue;
      if (to == nullptr) {
        return absl::UnimplementedError(absl::StrCat(
            "node ", Quote(name), ": without backing, what the header names ",
            "would be opened, which a running bgfs cannot do; name it"));
      }
      change_.links.push_back(
          {node.part, name, child, from == nullptr ? "" : *from, *to});
      if (absl::string_view(child) == "file" && !SameBytes(*from, *to)) {
        other_file = true;
      }
    }
    const bool other_driver =
        other_file || !Same(DriverSettings(was.node, false),
                            DriverSettings(node.node, false));
    if (!other_driver &&
        Same(DriverSettings(was.node, true), DriverSettings(node.node, true))) {
      return absl::OkStatus();
    }
    if (other_file || OtherBytes(was.node, node.node)) changed_.insert(name);
    if (node.node.has_memory() && other_driver &&
        !Same(was.node.memory(), node.node.memory())) {
      return absl::UnimplementedError(absl::StrCat(
          "node ", Quote(name),
          ": a memory node cannot change its size, which ",
          "would lose what is in it; give the new node another name"));
    }
    change_.reopens.push_back(
        {node.part, was.node, node, other_driver && !node.node.has_memory()});
    return absl::OkStatus();
  }

  // Whether what is read from the node may change by it.
  static bool OtherBytes(const Node& was, const Node& node) {
    if (node.has_file()) return was.file().filename() != node.file().filename();
    if (node.has_raw()) {
      return was.raw().offset() != node.raw().offset() ||
             was.raw().size() != node.raw().size();
    }
    return node.has_null();
  }

  // Whether a filter was put before what was there, or taken away.
  bool SameBytes(const std::string& from, const std::string& to) const {
    return FilterOver(to, from) || FilterOver(from, to);
  }

  bool FilterOver(const std::string& above, const std::string& below) const {
    for (const OpenNode& node : change_.result.nodes) {
      if (node.node.node_name() == above) return IsFilterOver(node.node, below);
    }
    for (const OpenNode& node : live_.nodes) {
      if (node.node.node_name() == above) return IsFilterOver(node.node, below);
    }
    return false;
  }

  static bool IsFilterOver(const Node& node, const std::string& below) {
    const std::string* file = ChildOf(node, "file");
    const bool window =
        node.has_raw() && (node.raw().has_offset() || node.raw().has_size());
    return !node.has_qcow2() && !window && file != nullptr && *file == below;
  }

  void MatchExports() {
    std::map<std::string, const AddExport*> live;
    for (const AddExport& item : live_.exports) live[item.item.id()] = &item;
    for (const Step& step : wanted_.steps) {
      const auto* add = std::get_if<AddExport>(&step);
      if (add == nullptr) continue;
      AddExport item = *add;
      item.part = PartOf(item.part);
      change_.result.exports.push_back(item);
      const auto found = live.find(item.item.id());
      if (found == live.end()) {
        change_.added.push_back(item);
        continue;
      }
      const AddExport& was = *found->second;
      live.erase(found);
      if (Same(was.item, item.item)) continue;
      if (!CanChange(was, item)) {
        change_.removed.push_back(was);
        change_.added.push_back(item);
        continue;
      }
      change_.exports.push_back({item.part, was.item, item.item});
    }
    for (const AddExport& item : live_.exports) {
      if (live.contains(item.item.id())) change_.removed.push_back(item);
    }
  }

  void MatchGroups() {
    change_.result.throttle_groups = wanted_.throttle_groups;
    std::map<std::string, const proto::ThrottleGroup*> live;
    for (const auto& group : live_.throttle_groups) live[group.name()] = &group;
    for (const auto& group : wanted_.throttle_groups) {
      const auto found = live.find(group.name());
      if (found == live.end()) {
        change_.groups.push_back({proto::ThrottleGroup(), group});
        continue;
      }
      if (!Same(*found->second, group)) {
        change_.groups.push_back({*found->second, group});
      }
      live.erase(found);
    }
    for (const auto& [name, group] : live) {
      change_.groups.push_back({*group, proto::ThrottleGroup()});
    }
  }

  // While clients have it open.
  static bool CanChange(const AddExport& was, const AddExport& item) {
    proto::Export rest_was = was.item;
    proto::Export rest = item.item;
    for (proto::Export* each : {&rest_was, &rest}) {
      each->clear_node();
      each->clear_writethrough();
      each->mutable_fuse()->clear_resizable();
    }
    return was.part == item.part && Same(rest_was, rest);
  }

  const LivePlan& live_;
  const Plan& wanted_;
  std::map<std::string, const OpenNode*> live_nodes_;  // by key
  std::map<int, int> parts_;                  // of the plan, to live ones
  std::map<std::string, std::string> names_;  // generated, to live ones
  std::set<std::string> kept_;                // keys
  std::set<std::string> changed_;             // names of nodes with other bytes
  Change change_;
};

// "read_only: true -> false", for each field that differs.
void DescribeFields(const Message& was, const Message& wanted,
                    const std::string& prefix, std::vector<std::string>* out) {
  const auto* reflection = was.GetReflection();
  for (int i = 0; i < was.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = was.GetDescriptor()->field(i);
    if (field->is_repeated() || (!reflection->HasField(was, field) &&
                                 !reflection->HasField(wanted, field))) {
      continue;
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      DescribeFields(reflection->GetMessage(was, field),
                     reflection->GetMessage(wanted, field),
                     absl::StrCat(prefix, field->name(), "."), out);
      continue;
    }
    std::string before;
    std::string after;
    google::protobuf::TextFormat::PrintFieldValueToString(was, field, -1,
                                                          &before);
    google::protobuf::TextFormat::PrintFieldValueToString(wanted, field, -1,
                                                          &after);
    if (before == after) continue;
    out->push_back(
        absl::StrCat(prefix, field->name(), ": ", before, " -> ", after));
  }
}

std::string Fields(const Message& was, const Message& wanted) {
  std::vector<std::string> fields;
  DescribeFields(was, wanted, "", &fields);
  return absl::StrJoin(fields, ", ");
}

// As people know it.
std::string NameOf(const OpenNode& node) {
  const std::string& name = node.node.node_name();
  return absl::StrCat("node ",
                      Quote(absl::StartsWith(name, "#") ? node.key : name));
}

// Those that are added, replaced and removed.
void DescribeExports(const Change& change, std::vector<std::string>* lines) {
  std::map<std::string, const proto::Export*> gone;
  for (const AddExport& item : change.removed) {
    gone[item.item.id()] = &item.item;
  }
  for (const AddExport& item : change.added) {
    const auto was = gone.find(item.item.id());
    if (was != gone.end()) {
      const std::string fields = Fields(*was->second, item.item);
      lines->push_back(
          absl::StrCat("replace export ", Quote(item.item.id()), ": ",
                       fields.empty() ? "its node has another home" : fields,
                       "; what has it open gets ESHUTDOWN"));
      gone.erase(was);
      continue;
    }
    lines->push_back(absl::StrCat("add export ", Quote(item.item.id()),
                                  " of node ", Quote(item.item.node()),
                                  item.item.writable() ? ", writable" : ""));
  }
  for (const AddExport& item : change.removed) {
    if (!gone.contains(item.item.id())) continue;
    lines->push_back(absl::StrCat("remove export ", Quote(item.item.id()),
                                  ": what has it open gets ESHUTDOWN"));
  }
}

}  // namespace

absl::StatusOr<Change> Compare(const LivePlan& live, const Plan& wanted) {
  return Comparer(live, wanted).Run();
}

std::vector<std::string> Describe(const Change& change) {
  std::map<std::string, std::string> names;
  for (const OpenNode& node : change.result.nodes) {
    names[node.node.node_name()] = NameOf(node);
  }
  for (const OpenNode& node : change.closes) {
    names.try_emplace(node.node.node_name(), NameOf(node));
  }
  std::vector<std::string> lines;
  for (const Change::GroupChange& group : change.groups) {
    if (!group.wanted.has_name()) continue;
    lines.push_back(
        absl::StrCat(group.was.has_name() ? "change" : "add",
                     " throttle group ", Quote(group.wanted.name()), ": ",
                     Fields(group.was.limits(), group.wanted.limits())));
  }
  for (const OpenNode& open : change.opens) {
    lines.push_back(
        absl::StrCat("open ", NameOf(open), ": ", DriverName(open.node)));
  }
  for (const Change::Reopen& reopen : change.reopens) {
    const std::string fields = Fields(DriverSettings(reopen.was, true),
                                      DriverSettings(reopen.wanted.node, true));
    lines.push_back(absl::StrCat(
        "reopen ", names[reopen.wanted.node.node_name()], ": ",
        fields.empty() ? "what it stands on has changed" : fields));
  }
  for (const Change::Link& link : change.links) {
    lines.push_back(absl::StrCat(
        "link ", link.child, " of ", names[link.parent], ": ",
        link.from.empty() ? "what its header names" : names[link.from], " -> ",
        names[link.to]));
  }
  for (const Change::ExportChange& item : change.exports) {
    lines.push_back(absl::StrCat("change export ", Quote(item.wanted.id()),
                                 ": ", Fields(item.was, item.wanted)));
  }
  DescribeExports(change, &lines);
  for (auto node = change.closes.rbegin(); node != change.closes.rend();
       ++node) {
    lines.push_back(absl::StrCat("close ", NameOf(*node)));
  }
  for (const Change::GroupChange& group : change.groups) {
    if (group.wanted.has_name()) continue;
    lines.push_back(
        absl::StrCat("remove throttle group ", Quote(group.was.name())));
  }
  return lines;
}

}  // namespace bgfs::config
