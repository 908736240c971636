// What has to change for a live graph to become a wanted one, as bgfs apply
// shows it and carries it out.
//
// Nodes are told apart by their keys (plan.h), exports by their ids. A node
// that is in both stays: it is reopened where its settings differ, and its
// edges are led elsewhere where its children do. One whose driver differs is
// opened anew, and takes the place of the old one.
#ifndef BGFS_CONFIG_DIFFERENCE_H_
#define BGFS_CONFIG_DIFFERENCE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/plan.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

// What is live, as the steps that would open it. Parts have the numbers that
// they have there, and `parts` is one that no part has.
struct LivePlan {
  std::vector<OpenNode> nodes;  // children before parents
  std::vector<AddExport> exports;
  std::vector<proto::ThrottleGroup> throttle_groups;
  int parts = 0;
};

struct Change {
  // Other settings for a node that stays.
  struct Reopen {
    int part = 0;
    proto::Node was;
    OpenNode wanted;
    bool other_driver = false;  // or the same one goes on
  };
  // An edge that leads elsewhere.
  struct Link {
    int part = 0;
    std::string parent;
    std::string child;  // "file", "backing"
    std::string from;   // empty: there was none, or what the header names
    std::string to;     // empty: it goes
  };
  struct ExportChange {
    int part = 0;
    proto::Export was;
    proto::Export wanted;
  };

  // `was` has no name where the group is new, `wanted` where it goes.
  struct GroupChange {
    proto::ThrottleGroup was;
    proto::ThrottleGroup wanted;
  };
  std::vector<GroupChange> groups;
  // Nodes to open before anything else, in this order.
  std::vector<OpenNode> opens;
  std::vector<Reopen> reopens;
  std::vector<Link> links;
  std::vector<AddExport> added;
  std::vector<AddExport> removed;
  std::vector<ExportChange> exports;
  // Nodes that go, children before parents.
  std::vector<OpenNode> closes;
  // What is live once all is done.
  LivePlan result;

  bool empty() const {
    return groups.empty() && opens.empty() && reopens.empty() &&
           links.empty() && added.empty() && removed.empty() &&
           exports.empty() && closes.empty();
  }
};

// Pure. UNIMPLEMENTED for what can only be had by a restart, with the reason.
absl::StatusOr<Change> Compare(const LivePlan& live, const Plan& wanted);

// One line for each step, in the order in which they are done.
std::vector<std::string> Describe(const Change& change);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_DIFFERENCE_H_
