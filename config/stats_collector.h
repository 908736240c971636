// StatsCollector: asks all homes at once what has been done there, and keeps
// what each said last. A home whose disk hangs is asked once, and answers when
// it can; until then what was known of it is given, marked as stale.

#ifndef BGFS_CONFIG_STATS_COLLECTOR_H_
#define BGFS_CONFIG_STATS_COLLECTOR_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/apply.h"
#include "config/pending.h"
#include "proto/control.pb.h"

namespace bgfs::config {

// Used by one thread at a time; never a loop's.
class StatsCollector {
 public:
  // Returns at once. What is asked runs at the homes in the order of posts: as
  // long as none of this has begun to close before the call, nothing is asked
  // that has ended.
  void Ask(const LiveGraph& live);

  // What is known by the deadline of what was there when Ask() was called last;
  // sooner if all have answered.
  control::StatsReply WaitUntil(Deadline deadline);

  // All that is known is stale from now on.
  void MarkStale();

 private:
  struct PartStats {
    std::vector<control::ExportStats> exports;
    std::vector<control::NodeStats> nodes;
  };
  struct Part {
    std::optional<Pending<PartStats>> asked;  // while it has not answered
    std::vector<control::NodeStats> nodes;
  };
  struct Listed {
    std::string id;
    std::string node;
  };

  static Task<PartStats> Look(Graph* graph, std::vector<BlockExport*> exports);
  void Keep(Part* part, PartStats stats);

  std::map<int, Part> parts_;
  std::vector<Listed> listed_;  // exports, as they are listed
  std::map<std::string, control::ExportStats> exports_;  // by id
};

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_STATS_COLLECTOR_H_
