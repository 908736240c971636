#include "config/stats_collector.h"

#include <iterator>
#include <utility>

#include "config/stats_message.h"

namespace bgfs::config {

Task<StatsCollector::PartStats> StatsCollector::Look(
    Graph* graph, std::vector<BlockExport*> exports) {
  PartStats stats;
  for (const BlockExport* item : exports) {
    // One that is ending may have given up its backend.
    if (!item->shutting_down()) stats.exports.push_back(ToMessage(*item));
  }
  for (const auto& node : graph->nodes()) {
    stats.nodes.push_back(ToMessage(*node));
  }
  co_return stats;
}

void StatsCollector::MarkStale() {
  for (auto& [id, item] : exports_) item.set_stale(true);
  for (auto& [number, part] : parts_) {
    for (control::NodeStats& node : part.nodes) node.set_stale(true);
  }
}

void StatsCollector::Keep(Part* part, PartStats stats) {
  part->asked.reset();
  part->nodes = std::move(stats.nodes);
  for (control::ExportStats& item : stats.exports) {
    std::string id = item.id();
    exports_.insert_or_assign(std::move(id), std::move(item));
  }
}

void StatsCollector::Ask(const LiveGraph& live) {
  for (auto& [number, part] : parts_) {
    if (!part.asked.has_value()) continue;
    // An answer that came too late the last time.
    std::optional<PartStats> late =
        part.asked->WaitUntil(Deadline::clock::now());
    if (late.has_value()) Keep(&part, *std::move(late));
  }
  MarkStale();
  std::map<int, std::vector<BlockExport*>> exports;
  listed_.clear();
  for (const auto& [number, item] : live.exports()) {
    listed_.push_back({item.item.id(), item.item.node()});
    if (item.block_export == nullptr) continue;
    exports[item.part].push_back(item.block_export.get());
  }
  const std::map<int, Graph*> graphs = live.graphs();
  for (auto it = parts_.begin(); it != parts_.end();) {
    it = graphs.contains(it->first) ? std::next(it) : parts_.erase(it);
  }
  for (const auto& [number, graph] : graphs) {
    Part& part = parts_[number];
    if (part.asked.has_value()) continue;
    part.asked = Pending<PartStats>::Start(
        live.home(number), Look(graph, std::move(exports[number])));
  }
}

control::StatsReply StatsCollector::WaitUntil(Deadline deadline) {
  for (auto& [number, part] : parts_) {
    if (!part.asked.has_value()) continue;
    std::optional<PartStats> stats = part.asked->WaitUntil(deadline);
    if (stats.has_value()) Keep(&part, *std::move(stats));
  }
  control::StatsReply reply;
  for (const Listed& listed : listed_) {
    control::ExportStats* item = reply.add_exports();
    const auto known = exports_.find(listed.id);
    if (known != exports_.end()) {
      *item = known->second;
      continue;
    }
    item->set_id(listed.id);
    item->set_node(listed.node);
    item->set_stale(true);
  }
  for (const auto& [number, part] : parts_) {
    for (const control::NodeStats& node : part.nodes) *reply.add_nodes() = node;
  }
  return reply;
}

}  // namespace bgfs::config
