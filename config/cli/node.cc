// bgfs node and bgfs export: one change of what a running daemon serves.

#include <filesystem>
#include <string>
#include <system_error>

#include "config/cli/change.h"
#include "config/cli/verb.h"
#include "config/edit.h"
#include "config/path.h"

namespace bgfs::cli {
namespace {

constexpr char kNodeText[] =
    "The node, as nodes { ... } has it in a configuration: 'node_name: \"a\" "
    "raw { file { filename: \"a.img\" } }'";

std::string CurrentFolder() {
  std::error_code error;
  return std::filesystem::current_path(error).string();
}

// File names in a command's text begin where the command was given.
absl::Status ParseHere(const std::string& text, proto::Node* node) {
  if (absl::Status s = config::ParseNode(text, node); !s.ok()) return s;
  config::ResolveFiles(CurrentFolder(), node);
  return absl::OkStatus();
}

CLI::App* AddChange(CLI::App* app, const char* name, const char* what,
                    ChangeOptions* options) {
  CLI::App* const change = app->add_subcommand(name, what);
  AddAtOption(change, options);
  AddChangeOptions(change, options);
  return change;
}

}  // namespace

ExitStatus RunNode(const Arguments& arguments) {
  CLI::App app(
      "Changes one node of what a running bgfs serves, under its clients. Each "
      "change is\nwhat bgfs apply would make of the configuration with it; "
      "--dry-run shows that.",
      "bgfs node");
  app.require_subcommand(1);
  ChangeOptions options;
  std::string text;
  std::string name;
  std::string other;

  auto* add = AddChange(&app, "add", "opens a node", &options);
  add->add_option("NODE", text, kNodeText)->required();
  auto* remove =
      AddChange(&app, "remove", "closes a node that nobody uses", &options);
  remove->add_option("NAME", name, "Its node_name")->required();
  auto* reopen =
      AddChange(&app, "reopen", "gives a node other settings", &options);
  reopen->add_option("NAME", name, "Its node_name")->required();
  reopen
      ->add_option("SETTINGS", text,
                   "What is to be different: 'cache { direct: true }'")
      ->required();
  auto* replace = AddChange(
      &app, "replace", "lets all that use a node use another one", &options);
  replace->add_option("NAME", name, "The one that is used")->required();
  replace->add_option("BY", other, "The one to use")->required();
  auto* insert =
      AddChange(&app, "insert",
                "puts a filter between a node and all that use it", &options);
  insert->add_option("FILTER", text, kNodeText)->required();
  insert->add_option("OVER", name, "The node below it")->required();
  auto* drop = AddChange(&app, "drop", "takes a filter away", &options);
  drop->add_option("NAME", name, "Its node_name")->required();
  if (auto ended = Parse(&app, arguments)) return *ended;

  proto::Node node;
  if (!text.empty()) {
    if (absl::Status s = ParseHere(text, &node); !s.ok()) return Fail(s);
  }
  return ChangeConfig(options, [&](proto::Config* config) {
    if (add->parsed()) return config::AddNode(node, config);
    if (remove->parsed()) return config::RemoveNode(name, config);
    if (reopen->parsed()) return config::ReopenNode(name, node, config);
    if (replace->parsed()) return config::ReplaceNode(name, other, config);
    if (insert->parsed()) return config::InsertNode(node, name, config);
    return config::DropNode(name, config);
  });
}

ExitStatus RunExport(const Arguments& arguments) {
  CLI::App app(
      "Adds an export to what a running bgfs serves, or removes one: its file "
      "disappears,\nwhoever still has it open gets ESHUTDOWN, and what was "
      "written to it is durable\nwhen the command ends.",
      "bgfs export");
  app.require_subcommand(1);
  ChangeOptions options;
  std::string text;
  std::string id;
  auto* add = AddChange(&app, "add", "shows a node as a file", &options);
  add->add_option("EXPORT", text,
                  "The export, as exports { ... } has it in a configuration: "
                  "'id: \"a\" node: \"a\" fuse {}'")
      ->required();
  auto* remove = AddChange(&app, "remove", "takes an export away", &options);
  remove->add_option("ID", id, "Its id")->required();
  if (auto ended = Parse(&app, arguments)) return *ended;

  proto::Export item;
  if (add->parsed()) {
    if (absl::Status s = config::ParseExport(text, &item); !s.ok()) {
      return Fail(s);
    }
    if (item.fuse().has_mountpoint()) {
      item.mutable_fuse()->set_mountpoint(
          config::Resolve(CurrentFolder(), item.fuse().mountpoint()));
    }
  }
  return ChangeConfig(options, [&](proto::Config* config) {
    return add->parsed() ? config::AddExport(item, config)
                         : config::RemoveExport(id, config);
  });
}

}  // namespace bgfs::cli
