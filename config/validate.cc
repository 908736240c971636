// The rules, one function each, in three groups: what a node or an export says
// of itself (CheckNode, CheckExport), what names lead to (CheckReferences,
// CheckCycles), and who writes where (CheckWriters and those below it).
#include "config/validate.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "config/base_copies.h"
#include "config/flat.h"
#include "config/path.h"
#include "config/size.h"
#include "config/validate_blkdebug.h"
#include "config/validate_passthrough.h"
#include "config/validate_throttle.h"

namespace bgfs::config {
namespace {

using proto::Export;
using proto::File;
using proto::Fuse;
using proto::Node;
using proto::Qcow2;
using proto::Raw;

constexpr size_t kMaxNodeName = 31;
constexpr size_t kMaxFileName = 255;  // NAME_MAX
// A cycle of more nodes is shown in part.
constexpr size_t kMaxCycleShown = 8;
// The search for a near name looks at every node: not for ten thousand typos.
constexpr int kMaxSuggestions = 20;

// What is wrong with a node's name; empty if nothing is.
std::string NodeNameMistake(absl::string_view name) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
  };
  if (name.size() > kMaxNodeName) {
    return absl::StrCat("node name ", Quote(name), " is ", name.size(),
                        " bytes long; ", kMaxNodeName, " is the most");
  }
  if (name.empty() || !absl::ascii_isalpha(name[0]) ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    return absl::StrCat("node name ", Quote(name),
                        " must be a letter and then letters, digits, '-', "
                        "'.' or '_'");
  }
  return "";
}

std::string ExportIdMistake(absl::string_view id) {
  if (id.size() > kMaxFileName) {
    return absl::StrCat("export id ", Quote(id), " is ", id.size(),
                        " bytes long; ", kMaxFileName, " is the most");
  }
  const bool bad = std::any_of(id.begin(), id.end(), [](char c) {
    return c == '/' || absl::ascii_iscntrl(c);
  });
  if (id.empty() || id == "." || id == ".." || bad) {
    return absl::StrCat("export id ", Quote(id),
                        " cannot be a file name: no '/', no control "
                        "character, not empty, \".\" or \"..\"");
  }
  return "";
}

std::string PathMistake(absl::string_view path) {
  if (path.empty()) return "is empty";
  if (absl::StrContains(path, '\0')) return "has a zero byte in it";
  return "";
}

class Validator {
 public:
  explicit Validator(const Source& source)
      : source_(source),
        complete_(source.errors.empty()),
        root_(source.place()),
        graph_(Flatten(source)),
        writers_(Writers(graph_, source.config)),
        fixed_size_(FirstBelow(graph_, [this](int node) {
          return graph_.nodes[node].node.raw().has_size();
        })) {}

  std::vector<Diagnostic> Run() {
    CheckImplicitFiles();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      CheckNode(static_cast<int>(i));
    }
    for (int i = 0; i < source_.config.exports_size(); ++i) CheckExport(i);
    CheckDuplicates();
    CheckReferences();
    CheckCycles();
    CheckWriters();
    CheckPassthrough(source_, graph_, writers_, &mistakes_);
    CheckThrottles(source_, graph_, &mistakes_);
    CheckBlkdebugs(graph_, complete_, &mistakes_);
    return std::move(mistakes_);
  }

 private:
  template <typename... Parts>
  void Report(Position at, const Parts&... parts) {
    mistakes_.push_back({at, absl::StrCat(parts...)});
  }

  // For what is not there.
  template <typename... Parts>
  void ReportMissing(Position at, const Parts&... parts) {
    if (complete_) Report(at, parts...);
  }

  // Names of nodes, as candidates for a name that is none of them.
  std::string NearestNode(absl::string_view name) {
    if (suggestions_++ >= kMaxSuggestions) return "";
    if (names_.empty()) {
      for (const FlatNode& flat : graph_.nodes) {
        if (flat.node.has_node_name()) names_.push_back(flat.node.node_name());
      }
    }
    return DidYouMean(name, names_);
  }

  void CheckImplicitFiles() {
    const proto::Config& config = source_.config;
    const int number = proto::Config::kAllowImplicitFieldNumber;
    for (int i = 0; i < config.allow_implicit_size(); ++i) {
      const std::string mistake = PathMistake(config.allow_implicit(i));
      if (!mistake.empty()) {
        Report(root_.Field(number, i), "allow_implicit ", mistake);
      }
    }
    if (config.implicit_files() == proto::ImplicitFiles::DENY &&
        config.allow_implicit_size() > 0) {
      Report(root_.Field(number, 0),
             "allow_implicit beside implicit_files: DENY, which allows none; "
             "remove one of them");
    }
  }

  // A node by itself.

  void CheckNode(int index) {
    const FlatNode& flat = graph_.nodes[index];
    const Node& node = flat.node;
    if (flat.written != nullptr) {
      CheckNodeName(flat);
      CheckThreshold(index);
      if (node.detect_zeroes() == proto::DetectZeroes::UNMAP &&
          node.discard() != proto::Discard::UNMAP) {
        Report(flat.place.Field(Node::kDetectZeroesFieldNumber),
               graph_.Describe(index),
               " has detect_zeroes: UNMAP without discard: UNMAP; add that, or "
               "use ON");
      }
    }
    switch (node.driver_case()) {
      case Node::kFile:
        return CheckFile(index);
      case Node::kRaw:
        return CheckRaw(index);
      case Node::kQcow2:
        return CheckQcow2(index);
      case Node::kNull:
        CheckSize(index, "size", node.null().has_size(), node.null().size(),
                  proto::Null::kSizeFieldNumber);
        return;
      case Node::kMemory:
        if (!node.memory().has_size()) ReportNeeds(index, "size");
        CheckSize(index, "size", node.memory().has_size(), node.memory().size(),
                  proto::Memory::kSizeFieldNumber);
        return;
      case Node::kThrottle:
      case Node::kCopyOnRead:
      case Node::kBlkdebug:
        if (flat.children.empty()) {
          ReportNeeds(index, "file_node or file_inline");
        }
        return;
      case Node::DRIVER_NOT_SET:
        ReportMissing(flat.place.start(), graph_.Describe(index),
                      " has no driver; give it one of ", Drivers());
        return;
    }
  }

  static std::string Drivers() {
    std::vector<std::string> names;
    const auto* drivers = Node::descriptor()->FindOneofByName("driver");
    names.reserve(drivers->field_count());
    for (int i = 0; i < drivers->field_count(); ++i) {
      names.push_back(drivers->field(i)->name());
    }
    return absl::StrJoin(names, ", ");
  }

  void CheckNodeName(const FlatNode& flat) {
    if (!flat.node.has_node_name()) {
      if (flat.parent == kNone) {
        ReportMissing(flat.place.start(), "a node needs a node_name");
      }
      return;
    }
    const std::string mistake = NodeNameMistake(flat.node.node_name());
    if (mistake.empty()) return;
    Report(flat.place.Field(Node::kNodeNameFieldNumber), mistake);
  }

  void CheckThreshold(int index) {
    const FlatNode& flat = graph_.nodes[index];
    if (!flat.node.has_write_threshold()) return;
    const auto size = ParseSize(flat.node.write_threshold());
    if (size.ok()) return;
    Report(flat.place.Field(Node::kWriteThresholdFieldNumber),
           graph_.Describe(index), ": write_threshold ",
           size.status().message());
  }

  void ReportNeeds(int node, absl::string_view field) {
    ReportMissing(graph_.nodes[node].driver.start(), graph_.Describe(node),
                  " needs a ", field);
  }

  // The size in bytes; 0 where there is none, or none that can be read.
  int64_t CheckSize(int node, absl::string_view field, bool present,
                    absl::string_view text, int number) {
    if (!present) return 0;
    const absl::StatusOr<int64_t> size = ParseSize(text);
    if (size.ok()) return *size;
    Report(graph_.nodes[node].driver.Field(number), graph_.Describe(node), ": ",
           field, " ", size.status().message());
    return 0;
  }

  void CheckFile(int index) {
    const FlatNode& flat = graph_.nodes[index];
    const File& file = flat.node.file();
    if (!file.has_filename()) {
      ReportNeeds(index, "filename");
    } else if (const std::string mistake = PathMistake(file.filename());
               !mistake.empty()) {
      Report(flat.driver.Field(File::kFilenameFieldNumber), "filename ",
             mistake);
    }
    if (flat.written == nullptr) return;
    const proto::Cache& outer = flat.written->cache();
    const proto::Cache& inner = flat.written->file().cache();
    if ((outer.has_direct() && inner.has_direct()) ||
        (outer.has_no_flush() && inner.has_no_flush())) {
      Report(flat.driver.Field(File::kCacheFieldNumber), graph_.Describe(index),
             " has this cache setting twice; keep the one of the node");
    }
  }

  void CheckRaw(int index) {
    const Raw& raw = graph_.nodes[index].node.raw();
    if (graph_.nodes[index].children.empty()) {
      ReportNeeds(index, "file or file_node");
    }
    const int64_t offset = CheckSize(index, "offset", raw.has_offset(),
                                     raw.offset(), Raw::kOffsetFieldNumber);
    const int64_t size = CheckSize(index, "size", raw.has_size(), raw.size(),
                                   Raw::kSizeFieldNumber);
    if (offset > std::numeric_limits<int64_t>::max() - size) {
      Report(graph_.nodes[index].driver.Field(Raw::kSizeFieldNumber),
             graph_.Describe(index),
             ": offset and size together exceed \"8E\"");
    }
  }

  void CheckQcow2(int index) {
    const FlatNode& flat = graph_.nodes[index];
    const Qcow2& qcow2 = flat.node.qcow2();
    const bool has_file =
        !flat.children.empty() && flat.children[0].role == Role::kFile;
    if (!has_file) ReportNeeds(index, "file or file_node");
    if (qcow2.has_data_file()) {
      Report(flat.driver.Field(Qcow2::kDataFileFieldNumber),
             graph_.Describe(index),
             ": external data files are not in this version");
    }
    CheckSize(index, "l2_cache_size", qcow2.has_l2_cache_size(),
              qcow2.l2_cache_size(), Qcow2::kL2CacheSizeFieldNumber);
  }

  // An export by itself.

  Place ExportPlace(int index) const {
    return root_.In(proto::Config::kExportsFieldNumber, index);
  }

  std::string DescribeExport(int index) const {
    const Export& item = source_.config.exports(index);
    if (!item.has_id()) return "an export without an id";
    return absl::StrCat("export ", Quote(item.id()));
  }

  void CheckExport(int index) {
    const Export& item = source_.config.exports(index);
    const Place place = ExportPlace(index);
    if (!item.has_id()) {
      ReportMissing(place.start(), "an export needs an id");
    } else if (const std::string mistake = ExportIdMistake(item.id());
               !mistake.empty()) {
      Report(place.Field(Export::kIdFieldNumber), mistake);
    }
    if (!item.has_node()) {
      ReportMissing(place.start(), DescribeExport(index), " needs a node");
    } else if (graph_.by_name.count(item.node()) == 0) {
      ReportMissing(place.Field(Export::kNodeFieldNumber),
                    DescribeExport(index), ": no node is called ",
                    Quote(item.node()), NearestNode(item.node()));
    }
    if (item.writethrough() && !item.writable()) {
      ReportMissing(place.Field(Export::kWritethroughFieldNumber),
                    DescribeExport(index),
                    " is writethrough but not writable; add writable: true");
    }
    if (item.has_fuse()) {
      CheckFuse(index);
    } else {
      ReportMissing(place.start(), DescribeExport(index),
                    " has no type; give it fuse {}");
    }
  }

  void CheckFuse(int index) {
    const Export& item = source_.config.exports(index);
    const Fuse& fuse = item.fuse();
    const Place place = ExportPlace(index).In(Export::kFuseFieldNumber);
    if (fuse.has_mountpoint()) {
      const std::string mistake = PathMistake(fuse.mountpoint());
      if (!mistake.empty()) {
        Report(place.Field(Fuse::kMountpointFieldNumber), DescribeExport(index),
               ": mountpoint ", mistake);
      }
    }
    if (fuse.mode() > 0777) {
      Report(place.Field(Fuse::kModeFieldNumber), DescribeExport(index),
             absl::StrFormat(": mode %#o is more than the permission bits "
                             "0777; an octal number begins with 0",
                             fuse.mode()));
    }
    if (fuse.resizable()) CheckResizable(index, place);
  }

  void CheckResizable(int index, const Place& place) {
    const Export& item = source_.config.exports(index);
    const Position at = place.Field(Fuse::kResizableFieldNumber);
    if (!item.writable()) {
      ReportMissing(at, DescribeExport(index),
                    " is resizable but not writable; add writable: true");
    }
    const auto top = graph_.by_name.find(item.node());
    if (top == graph_.by_name.end()) return;
    const int fixed = fixed_size_[top->second];
    if (fixed == kNone) return;
    Report(at, DescribeExport(index), " is resizable, but ",
           graph_.Describe(fixed), " has a fixed size");
  }

  // Names.

  // Reports `what` at `at` if the key was seen before, and where.
  using Seen = absl::flat_hash_map<std::string, Position>;
  void CheckUnique(Seen* seen, const std::string& key, Position at,
                   absl::string_view what, absl::string_view done = "used") {
    const auto [first, added] = seen->try_emplace(key, at);
    if (added) return;
    Report(at, what, " is ", done, " twice", FirstOn(first->second));
  }

  static std::string FirstOn(Position at) {
    return at.line == 0 ? "" : absl::StrCat("; first on line ", at.line);
  }

  void CheckDuplicates() {
    Seen names;
    for (const FlatNode& flat : graph_.nodes) {
      if (!flat.node.has_node_name()) continue;
      CheckUnique(&names, flat.node.node_name(),
                  flat.place.Field(Node::kNodeNameFieldNumber),
                  absl::StrCat("node name ", Quote(flat.node.node_name())));
    }
    Seen ids;
    Seen mountpoints;
    for (int i = 0; i < source_.config.exports_size(); ++i) {
      const Export& item = source_.config.exports(i);
      const Place place = ExportPlace(i);
      if (item.has_id()) {
        CheckUnique(&ids, item.id(), place.Field(Export::kIdFieldNumber),
                    absl::StrCat("export id ", Quote(item.id())));
      }
      const std::string& mountpoint = item.fuse().mountpoint();
      if (mountpoint.empty()) continue;
      CheckUnique(&mountpoints, Normal(Resolve(source_.folder, mountpoint)),
                  place.In(Export::kFuseFieldNumber)
                      .Field(Fuse::kMountpointFieldNumber),
                  absl::StrCat("mountpoint ", Quote(mountpoint)));
    }
  }

  void CheckReferences() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const FlatChild& child : graph_.nodes[i].children) {
        if (child.target != kNone) continue;
        ReportMissing(child.at, graph_.Describe(static_cast<int>(i)),
                      ": no node is called ", Quote(child.name),
                      NearestNode(child.name));
      }
    }
  }

  void CheckCycles() {
    for (const std::vector<int>& cycle : ChildrenFirst(graph_).cycles) {
      std::vector<std::string> names;
      for (size_t i = 0; i < cycle.size(); ++i) {
        if (i == kMaxCycleShown) {
          names.push_back("...");
          break;
        }
        names.push_back(graph_.Describe(cycle[i]));
      }
      names.push_back(graph_.Describe(cycle[0]));
      Report(graph_.nodes[cycle[0]].place.start(),
             "nodes stand on each other in a circle: ",
             absl::StrJoin(names, " -> "));
    }
  }

  // Who writes where.

  void CheckWriters() {
    const std::vector<int> rests_on = NodesBelowImages();
    // An image's own file is its to write.
    const std::vector<int> held = FirstBelow(graph_, [&](int node) {
      return rests_on[node] != kNone || graph_.nodes[node].node.has_qcow2();
    });
    for (const Writer& writer : writers_) {
      if (writer.blocked_at != kNone) {
        ReportBlocked(writer);
      } else if (writer.export_index != kNone) {
        CheckNothingRestsOn(writer, held, rests_on);
      }
    }
    const std::vector<bool> opened = OpenedForWriting(graph_, writers_);
    CheckOwnBases(opened);
    CheckCopiesOnRead(opened);
    Seen files;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const FlatNode& flat = graph_.nodes[i];
      if (!opened[i]) continue;
      CheckForceShare(static_cast<int>(i), opened);
      const std::string& name = flat.node.file().filename();
      if (name.empty()) continue;
      CheckUnique(&files, Normal(name),
                  flat.driver.Field(File::kFilenameFieldNumber),
                  absl::StrCat("file ", Quote(name)), "opened for writing");
    }
  }

  Position WriterPosition(const Writer& writer) const {
    if (writer.export_index != kNone) {
      return ExportPlace(writer.export_index)
          .Field(Export::kWritableFieldNumber);
    }
    return graph_.nodes[writer.node].place.Field(Node::kReadOnlyFieldNumber);
  }

  void ReportBlocked(const Writer& writer) {
    const std::string who =
        writer.export_index != kNone
            ? absl::StrCat(DescribeExport(writer.export_index), " is writable")
            : absl::StrCat(graph_.Describe(writer.node), " is for writing");
    Report(WriterPosition(writer), who, ", but ",
           graph_.Describe(writer.blocked_at), " is read_only");
  }

  // For each node that an image with a backing file or a format holds fixed,
  // the qcow2 node nearest above it; kNone for all others.
  std::vector<int> NodesBelowImages() const {
    std::vector<int> above(graph_.nodes.size(), kNone);
    std::vector<int> pending;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].node.has_qcow2()) {
        pending.push_back(static_cast<int>(i));
      }
    }
    while (!pending.empty()) {
      const int node = pending.back();
      pending.pop_back();
      const bool image = graph_.nodes[node].node.has_qcow2();
      for (const FlatChild& child : graph_.nodes[node].children) {
        if (child.target == kNone || above[child.target] != kNone) continue;
        above[child.target] = image ? node : above[node];
        pending.push_back(child.target);
      }
    }
    return above;
  }

  // `held` is where each walk down first meets a node that something rests on,
  // or an image.
  void CheckNothingRestsOn(const Writer& writer, const std::vector<int>& held,
                           const std::vector<int>& rests_on) {
    const int node = held[writer.top];
    if (node == kNone || rests_on[node] == kNone) return;
    Report(WriterPosition(writer), DescribeExport(writer.export_index),
           " writes to ", graph_.Describe(node),
           ", which must not change: ", graph_.Describe(rests_on[node]),
           " rests on it");
  }

  // What is opened once more must not change, and there is a bound to it.
  void CheckOwnBases(const std::vector<bool>& opened) {
    int64_t copied = 0;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const FlatNode& flat = graph_.nodes[i];
      if (!HasOwnBase(flat)) continue;
      const int base = graph_.Child(static_cast<int>(i), Role::kBacking);
      if (base == kNone) continue;
      const Position at = flat.driver.Field(Qcow2::kShareBaseFieldNumber);
      for (const int below : NodesFrom(graph_, base)) {
        ++copied;
        if (!opened[below]) continue;
        Report(at, graph_.Describe(static_cast<int>(i)),
               " has share_base: false, but ", graph_.Describe(below),
               " below it is opened for writing; make that read_only");
        break;
      }
      if (copied <= kMaxBaseCopies) continue;
      Report(at, "share_base: false makes more than ", kMaxBaseCopies,
             " copies of nodes; let some overlays share their base");
      return;
    }
  }

  void CheckCopiesOnRead(const std::vector<bool>& opened) {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const FlatNode& flat = graph_.nodes[i];
      const int file = graph_.Child(static_cast<int>(i), Role::kFile);
      if (!flat.node.has_copy_on_read() || file == kNone || opened[file]) {
        continue;
      }
      ReportMissing(flat.driver.start(), graph_.Describe(static_cast<int>(i)),
                    " copies what is read into ", graph_.Describe(file),
                    ", which is not opened for writing; give that "
                    "read_only: false");
    }
  }

  void CheckForceShare(int index, const std::vector<bool>& opened) {
    const FlatNode& flat = graph_.nodes[index];
    if (!flat.node.force_share()) return;
    // Told once, for the node that the others inherit it from.
    if (flat.parent != kNone && opened[flat.parent]) return;
    const Position at = flat.written == nullptr
                            ? flat.place.start()
                            : flat.place.Field(Node::kForceShareFieldNumber);
    Report(at, graph_.Describe(index),
           " has force_share, which is for reading only, and is opened for "
           "writing");
  }

  const Source& source_;
  const bool complete_;
  const Place root_;
  const FlatGraph graph_;
  const std::vector<Writer> writers_;
  const std::vector<int> fixed_size_;
  std::vector<std::string> names_;
  int suggestions_ = 0;
  std::vector<Diagnostic> mistakes_;
};

}  // namespace

std::vector<Diagnostic> Validate(const Source& source) {
  std::vector<Diagnostic> mistakes = source.errors;
  if (source.parsed) {
    std::vector<Diagnostic> found = Validator(source).Run();
    mistakes.insert(mistakes.end(), found.begin(), found.end());
  }
  std::sort(mistakes.begin(), mistakes.end());
  return mistakes;
}

}  // namespace bgfs::config
