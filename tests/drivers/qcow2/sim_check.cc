#include "tests/drivers/qcow2/sim_check.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

Task<absl::StatusOr<CheckReport>> CheckNode(Graph& graph, Node* node,
                                            Repair repair) {
  const Permissions used =
      repair == Repair::kNone ? kConsistentRead : kReadWrite;
  auto backend = Backend::Create("check", node, {used, kConsistentRead});
  if (!backend.ok()) co_return backend.status();
  absl::StatusOr<CheckReport> report =
      co_await CheckImage((*backend)->root(), repair);
  backend->reset();
  const absl::Status closed = co_await graph.Close();
  if (report.ok() && !closed.ok()) co_return closed;
  co_return report;
}

Task<absl::StatusOr<CheckReport>> OpenAndCheck(Loop* loop, std::string path,
                                               Repair repair) {
  Graph graph(loop);
  const OpenContext context;
  const proto::Node spec = ParseNode(absl::StrCat(
      "file { filename: \"", path,
      "\" } read_only: ", repair == Repair::kNone ? "true" : "false"));
  const absl::StatusOr<Node*> node = co_await OpenNode(graph, spec, context);
  if (!node.ok()) co_return node.status();
  co_return co_await CheckNode(graph, *node, repair);
}

}  // namespace

absl::StatusOr<CheckReport> CheckInWorld(SimWorld& world,
                                         const std::string& path,
                                         Repair repair) {
  return world.Run(OpenAndCheck(&world.loop(), path, repair));
}

}  // namespace bgfs::qcow2
