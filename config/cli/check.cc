// bgfs check: whether the metadata of an image fits together, and repair. It
// needs no daemon: it opens the image's file alone, without backing files.

#include "drivers/qcow2/check.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/cli/verb.h"
#include "config/diagnostic.h"
#include "drivers/create.h"
#include "drivers/probe.h"
#include "graph/async/buffer.h"
#include "graph/async/make_loop.h"
#include "graph/backend.h"
#include "graph/graph.h"

namespace bgfs::cli {
namespace {

// So many findings are shown to people; with --json, all that were kept.
constexpr size_t kShownFindings = 20;

struct CheckOptions {
  std::string image;
  std::string repair;
  bool json = false;
  bool force_share = false;

  qcow2::Repair repair_mode() const {
    if (repair.empty()) return qcow2::Repair::kNone;
    return repair == "all" ? qcow2::Repair::kAll : qcow2::Repair::kLeaks;
  }
};

// --- The check, on a loop of its own -----------------------------------------

proto::Node MakeNode(const CheckOptions& options) {
  proto::Node node;
  node.mutable_file()->set_filename(Absolute(options.image));
  node.set_read_only(options.repair.empty());
  node.set_force_share(options.force_share);
  return node;
}

// While it is checked nobody else may write to it; while it is repaired nobody
// may look at what is half done either.
PermissionSet Rights(const CheckOptions& options) {
  if (options.repair.empty()) {
    return {kConsistentRead, kConsistentRead | kWriteUnchanged};
  }
  return {kConsistentRead | kWrite | kResize, 0};
}

Task<absl::Status> CheckFormat(Child& file) {
  const int64_t bytes = std::min(kProbeBytes, file.size());
  AlignedBuffer start = AlignedBuffer::Allocate(kProbeBytes);
  const IoStatus read =
      start ? co_await file.Read(nullptr, 0, start.view(0, bytes))
            : IoError(ENOMEM);
  if (!read.ok()) co_return read.ToStatus("reading its first bytes");
  const absl::StatusOr<std::string> format =
      ProbeFormat({start.data(), static_cast<size_t>(bytes)});
  if (!format.ok()) co_return format.status();
  if (*format == "qcow2") co_return absl::OkStatus();
  co_return absl::FailedPreconditionError(
      "a raw image has no consistency to check; only qcow2 images have");
}

Task<absl::StatusOr<qcow2::CheckReport>> CheckNode(
    Node* node, const CheckOptions& options, qcow2::CheckProgress progress) {
  auto backend = Backend::Create("check", node, Rights(options));
  if (!backend.ok()) co_return backend.status();
  Child& file = (*backend)->root();
  const std::string name = config::Quote(options.image);
  if (auto s = co_await CheckFormat(file); !s.ok()) {
    co_return absl::Status(
        s.code(), absl::StrCat("cannot check ", name, ": ", s.message()));
  }
  absl::StatusOr<qcow2::CheckReport> report = co_await qcow2::CheckImage(
      file, options.repair_mode(), std::move(progress));
  if (report.ok()) co_return report;
  co_return absl::Status(
      report.status().code(),
      absl::StrCat("cannot check ", name, ": ", report.status().message()));
}

Task<absl::StatusOr<qcow2::CheckReport>> OpenAndCheck(
    Loop* loop, const CheckOptions& options, qcow2::CheckProgress progress) {
  Graph graph(loop);
  OpenContext context;
  context.warn = [](absl::string_view line) {
    Note(absl::StrCat("warning: ", line));
  };
  const absl::StatusOr<Node*> node =
      co_await OpenNode(graph, MakeNode(options), context);
  if (!node.ok()) co_return node.status();
  absl::StatusOr<qcow2::CheckReport> report =
      co_await CheckNode(*node, options, std::move(progress));
  const absl::Status closed = co_await graph.Close();
  if (report.ok() && !closed.ok()) co_return closed;
  co_return report;
}

// --- What is printed ---------------------------------------------------------

// A percentage that grows, where somebody looks.
class ProgressLine {
 public:
  explicit ProgressLine(bool wanted)
      : shown_(wanted && isatty(STDERR_FILENO) == 1) {}
  ~ProgressLine() {
    if (percent_ >= 0) std::fputs("\r    \r", stderr);
  }

  void Show(int64_t done, int64_t total) {
    const auto percent = static_cast<int>(100 * done / total);
    if (!shown_ || percent == percent_) return;
    percent_ = percent;
    std::fputs(absl::StrFormat("\r%3d%%", percent).c_str(), stderr);
  }

 private:
  const bool shown_;
  int percent_ = -1;
};

ExitStatus StatusOf(const qcow2::CheckReport& report) {
  if (report.corruptions() != 0) return kCorrupt;
  return report.leaks() != 0 ? kLeaks : kFine;
}

const char* NameOf(ExitStatus status) {
  return status == kCorrupt ? "corrupt" : status == kLeaks ? "leaks" : "clean";
}

std::string Counted(int64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

std::string Both(int64_t corruptions, int64_t leaks) {
  if (leaks == 0) return Counted(corruptions, "corruption");
  if (corruptions == 0) return Counted(leaks, "leak");
  return absl::StrCat(Counted(corruptions, "corruption"), " and ",
                      Counted(leaks, "leak"));
}

void Print(const CheckOptions& options, const qcow2::CheckReport& report) {
  const std::string image = config::Printable(options.image, PATH_MAX);
  size_t shown = 0;
  for (const qcow2::Finding& finding : report.findings) {
    if (++shown > kShownFindings) break;
    std::cout << absl::StreamFormat("%s: %s\n", NameOf(finding.kind),
                                    finding.text);
  }
  int64_t found = 0;
  for (const int64_t of_kind : report.counts) found += of_kind;
  if (found > static_cast<int64_t>(kShownFindings)) {
    std::cout << absl::StreamFormat(
        "... and %d more\n", found - static_cast<int64_t>(kShownFindings));
  }
  std::cout << image << ": ";
  if (report.leaks_fixed + report.corruptions_fixed > 0) {
    std::cout << "repaired "
              << Both(report.corruptions_fixed, report.leaks_fixed) << "; ";
  }
  if (report.clean()) {
    std::cout << "no errors";
  } else {
    std::cout << Both(report.corruptions(), report.leaks())
              << (options.repair.empty() ? " (bgfs check --repair mends them)"
                                         : " remain");
  }
  std::cout << absl::StreamFormat(
      "; %d of %d clusters allocated, %d compressed\n",
      report.allocated_clusters, report.total_clusters,
      report.compressed_clusters);
}

void PrintJson(const CheckOptions& options, const qcow2::CheckReport& report) {
  google::protobuf::Struct root;
  auto& fields = *root.mutable_fields();
  fields["file"].set_string_value(Text(options.image));
  fields["result"].set_string_value(NameOf(StatusOf(report)));
  const std::pair<const char*, int64_t> numbers[] = {
      {"leaks", report.leaks()},
      {"corruptions", report.corruptions()},
      {"leaks_fixed", report.leaks_fixed},
      {"corruptions_fixed", report.corruptions_fixed},
      {"total_clusters", report.total_clusters},
      {"allocated_clusters", report.allocated_clusters},
      {"compressed_clusters", report.compressed_clusters},
      {"image_end_offset", report.image_end.value()}};
  for (const auto& [name, value] : numbers) {
    fields[name].set_number_value(static_cast<double>(value));
  }
  fields["marked_dirty"].set_bool_value(
      report.count(qcow2::FindingKind::kMarkedDirty) != 0);
  fields["marked_corrupt"].set_bool_value(
      report.count(qcow2::FindingKind::kMarkedCorrupt) != 0);
  auto& kinds = *fields["kinds"].mutable_struct_value()->mutable_fields();
  for (int i = 0; i < qcow2::kFindingKinds; ++i) {
    const auto kind = static_cast<qcow2::FindingKind>(i);
    if (report.count(kind) == 0) continue;
    kinds[std::string(NameOf(kind))].set_number_value(
        static_cast<double>(report.count(kind)));
  }
  auto* list = fields["findings"].mutable_list_value();
  for (const qcow2::Finding& finding : report.findings) {
    auto& item = *list->add_values()->mutable_struct_value()->mutable_fields();
    item["kind"].set_string_value(std::string(NameOf(finding.kind)));
    item["offset"].set_number_value(static_cast<double>(finding.at.value()));
    item["text"].set_string_value(finding.text);
  }
  std::string text;
  // A Struct of strings and numbers always has a JSON form.
  (void)google::protobuf::util::MessageToJsonString(root, &text);
  std::cout << text << "\n";
}

void AddOptions(CLI::App* app, CheckOptions* options) {
  app->add_option("IMAGE", options->image, "A qcow2 image that nobody uses")
      ->required();
  app->add_option("--repair", options->repair,
                  "leaks: give back space that nothing references; all: make "
                  "every count and flag right, too")
      ->type_name("WHAT")
      ->check(CLI::IsMember({"leaks", "all"}));
  app->add_flag("--json", options->json, "Print one JSON object");
  app->add_flag("--force-share", options->force_share,
                "Check an image that another program has open; what it writes "
                "meanwhile may look like damage");
}

}  // namespace

ExitStatus RunCheck(const Arguments& arguments) {
  CLI::App app(
      "Says whether the metadata of a qcow2 image fits together, and repairs "
      "it. Backing\nfiles are not looked at, nor is guest data.\n\n"
      "A leak is space that nothing references: it is lost, and that is all. "
      "Everything\nelse is corruption: the image should not be written to. "
      "What has no one right\nvalue is not repaired.\n\n"
      "Exit status: 0 no errors (or none left), 1 could not check or repair, "
      "2 wrong\nusage, 3 leaks, 4 corruption.",
      "bgfs check");
  CheckOptions options;
  AddOptions(&app, &options);
  if (auto ended = Parse(&app, arguments)) return *ended;
  if (options.force_share && !options.repair.empty()) {
    return FailUsage("check", "--force-share and --repair exclude each other");
  }
  auto loop = MakeLoop("bgfs-check");
  if (!loop.ok()) return Fail(loop.status());
  absl::StatusOr<qcow2::CheckReport> report;
  {
    ProgressLine line(!options.json);
    report = BlockOn(**loop, OpenAndCheck(loop->get(), options,
                                          [&line](int64_t done, int64_t total) {
                                            line.Show(done, total);
                                          }));
  }
  if (!report.ok()) return Fail(report.status());
  options.json ? PrintJson(options, *report) : Print(options, *report);
  return StatusOf(*report);
}

}  // namespace bgfs::cli
