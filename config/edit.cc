#include "config/edit.h"

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "config/diagnostic.h"
#include "config/path.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

namespace bgfs::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;
using proto::Config;
using proto::Node;

// Keeps the first error of a text.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!first.empty()) return;
    first =
        absl::StrCat("line ", line + 1, ", column ", column + 1, ": ", message);
  }

  std::string first;
};

absl::Status Parse(absl::string_view text, Message* message) {
  FirstError error;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(std::string(text), message)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Quote(text), " is not what it should be: ", error.first));
}

// The message of a node's driver, or null.
Message* DriverOf(Node* node) {
  const auto* reflection = node->GetReflection();
  const FieldDescriptor* driver = reflection->GetOneofFieldDescriptor(
      *node, Node::descriptor()->FindOneofByName("driver"));
  return driver == nullptr ? nullptr : reflection->MutableMessage(node, driver);
}

// The fields of a driver's message that lead to another node, by name or
// inline. A group, or a file, is no node.
struct ChildField {
  Message* driver;
  const FieldDescriptor* field;

  bool is_inline() const {
    return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  }
  Node* node() const {
    return static_cast<Node*>(
        driver->GetReflection()->MutableMessage(driver, field));
  }
  std::string name() const {
    return driver->GetReflection()->GetString(*driver, field);
  }
  void SetName(absl::string_view name) const {
    driver->GetReflection()->SetString(driver, field, std::string(name));
  }
};

bool LeadsToNode(const FieldDescriptor* field) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return field->message_type() == Node::descriptor();
  }
  return field->name() == "file_node" || field->name() == "backing";
}

std::vector<ChildField> ChildrenOf(Node* node) {
  std::vector<ChildField> children;
  Message* const driver = DriverOf(node);
  if (driver == nullptr) return children;
  std::vector<const FieldDescriptor*> fields;
  driver->GetReflection()->ListFields(*driver, &fields);
  for (const FieldDescriptor* field : fields) {
    if (LeadsToNode(field)) children.push_back({driver, field});
  }
  return children;
}

// Parents before what is inline in them. Stops when `visit` says so.
bool VisitNode(Node* node, absl::FunctionRef<bool(Node*)> visit) {
  if (!visit(node)) return false;
  for (const ChildField& child : ChildrenOf(node)) {
    if (child.is_inline() && !VisitNode(child.node(), visit)) return false;
  }
  return true;
}

void VisitNodes(Config* config, absl::FunctionRef<bool(Node*)> visit) {
  for (Node& node : *config->mutable_nodes()) {
    if (!VisitNode(&node, visit)) return;
  }
}

Node* FindNode(absl::string_view name, Config* config) {
  Node* found = nullptr;
  VisitNodes(config, [&](Node* node) {
    if (node->node_name() == name) found = node;
    return found == nullptr;
  });
  return found;
}

absl::Status NoNode(absl::string_view name) {
  return absl::NotFoundError(
      absl::StrCat("no node ", Quote(name), "; see: bgfs graph"));
}

absl::Status CheckNew(const Node& node, Config* config) {
  if (!node.has_node_name()) {
    return absl::InvalidArgumentError(
        "the node has no name: give it node_name: \"...\"");
  }
  if (FindNode(node.node_name(), config) == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("there is a node ", Quote(node.node_name()),
                   " already; choose another name"));
}

// Leads every edge and export that goes to `from` elsewhere, but for what the
// node `except` has.
void Relink(absl::string_view from, absl::string_view to, const Node* except,
            Config* config) {
  VisitNodes(config, [&](Node* node) {
    if (node == except) return true;
    for (const ChildField& child : ChildrenOf(node)) {
      if (!child.is_inline() && child.name() == from) child.SetName(to);
    }
    return true;
  });
  for (proto::Export& item : *config->mutable_exports()) {
    if (item.node() == from) item.set_node(std::string(to));
  }
}

// Who names a node, in words; empty for nobody.
std::string UserOf(absl::string_view name, Config* config) {
  std::string user;
  VisitNodes(config, [&](Node* node) {
    for (const ChildField& child : ChildrenOf(node)) {
      if (!child.is_inline() && child.name() == name) {
        user = absl::StrCat("node ", Quote(node->node_name()));
      }
    }
    return user.empty();
  });
  for (const proto::Export& item : config->exports()) {
    if (item.node() == name) user = absl::StrCat("export ", Quote(item.id()));
  }
  return user;
}

// Of Config.nodes, so that others can name it: -1 where it is inline.
int IndexOf(absl::string_view name, const Config& config) {
  for (int i = 0; i < config.nodes_size(); ++i) {
    if (config.nodes(i).node_name() == name) return i;
  }
  return -1;
}

// The field of a filter that names its child, or null.
const FieldDescriptor* FileField(Node* filter) {
  Message* const driver = DriverOf(filter);
  return driver == nullptr
             ? nullptr
             : driver->GetDescriptor()->FindFieldByName("file_node");
}

}  // namespace

absl::Status ParseNode(absl::string_view text, Node* node) {
  return Parse(text, node);
}

absl::Status ParseExport(absl::string_view text, proto::Export* item) {
  return Parse(text, item);
}

void ResolveFiles(const std::string& folder, Node* node) {
  const auto resolve = [&folder](proto::File* file) {
    if (file->has_filename()) {
      file->set_filename(Resolve(folder, file->filename()));
    }
  };
  VisitNode(node, [&resolve](Node* each) {
    if (each->has_file()) resolve(each->mutable_file());
    if (each->raw().has_file()) resolve(each->mutable_raw()->mutable_file());
    if (each->qcow2().has_file()) {
      resolve(each->mutable_qcow2()->mutable_file());
    }
    return true;
  });
}

absl::Status AddNode(const Node& node, Config* config) {
  if (absl::Status s = CheckNew(node, config); !s.ok()) return s;
  *config->add_nodes() = node;
  return absl::OkStatus();
}

absl::Status RemoveNode(absl::string_view name, Config* config) {
  const int index = IndexOf(name, *config);
  if (index < 0) return NoNode(name);
  const std::string user = UserOf(name, config);
  if (!user.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "node ", Quote(name), " is used by ", user, "; change that first"));
  }
  config->mutable_nodes()->DeleteSubrange(index, 1);
  return absl::OkStatus();
}

absl::Status ReopenNode(absl::string_view name, const Node& settings,
                        Config* config) {
  Node* const node = FindNode(name, config);
  if (node == nullptr) return NoNode(name);
  if (settings.has_node_name()) {
    return absl::InvalidArgumentError("a node keeps its name");
  }
  if (settings.driver_case() != Node::DRIVER_NOT_SET &&
      settings.driver_case() != node->driver_case()) {
    return absl::InvalidArgumentError(
        absl::StrCat("node ", Quote(name),
                     " keeps its driver; add another node, and replace it"));
  }
  node->MergeFrom(settings);
  return absl::OkStatus();
}

absl::Status ReplaceNode(absl::string_view name, absl::string_view by,
                         Config* config) {
  if (FindNode(name, config) == nullptr) return NoNode(name);
  const Node* const other = FindNode(by, config);
  if (other == nullptr) return NoNode(by);
  Relink(name, by, other, config);
  return absl::OkStatus();
}

absl::Status InsertNode(Node filter, absl::string_view over, Config* config) {
  if (absl::Status s = CheckNew(filter, config); !s.ok()) return s;
  if (IndexOf(over, *config) < 0) return NoNode(over);
  const FieldDescriptor* field = FileField(&filter);
  if (field == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("node ", Quote(filter.node_name()),
                     " is no filter: its driver has no file_node"));
  }
  ChildField{DriverOf(&filter), field}.SetName(over);
  Relink(over, filter.node_name(), nullptr, config);
  *config->add_nodes() = std::move(filter);
  return absl::OkStatus();
}

absl::Status DropNode(absl::string_view name, Config* config) {
  const int index = IndexOf(name, *config);
  if (index < 0) return NoNode(name);
  Node* const node = config->mutable_nodes(index);
  const std::vector<ChildField> children = ChildrenOf(node);
  if (children.size() != 1 || children[0].is_inline() ||
      children[0].field != FileField(node) || node->has_qcow2()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "node ", Quote(name), " is no filter over another node that has a name",
        "; use: bgfs node replace"));
  }
  Relink(name, children[0].name(), nullptr, config);
  config->mutable_nodes()->DeleteSubrange(index, 1);
  return absl::OkStatus();
}

absl::Status AddExport(const proto::Export& item, Config* config) {
  for (const proto::Export& other : config->exports()) {
    if (other.id() != item.id()) continue;
    return absl::AlreadyExistsError(
        absl::StrCat("there is an export ", Quote(item.id()),
                     " already; choose another id"));
  }
  *config->add_exports() = item;
  return absl::OkStatus();
}

absl::Status RemoveExport(absl::string_view id, Config* config) {
  for (int i = 0; i < config->exports_size(); ++i) {
    if (config->exports(i).id() != id) continue;
    config->mutable_exports()->DeleteSubrange(i, 1);
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("no export ", Quote(id), "; see: bgfs status"));
}

}  // namespace bgfs::config
