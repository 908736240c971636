// Changes of a graph that nobody who reads and writes it may notice: filters
// come and go, drivers and options are exchanged. Some of them are made to fail
// at a random step.

#ifndef BGFS_TESTS_GRAPH_RANDOM_CHANGES_H_
#define BGFS_TESTS_GRAPH_RANDOM_CHANGES_H_

#include <vector>

#include "absl/status/status.h"
#include "graph/graph.h"
#include "graph/transaction.h"
#include "tests/sim/sim_random.h"

namespace bgfs {

class RandomChanges {
 public:
  // Both outlive it.
  RandomChanges(Graph* graph, SimRandom* random)
      : graph_(*graph), random_(*random) {}

  // Nobody else changes the graph or drains a part of it meanwhile. An error is
  // one that the world has made.
  Task<absl::Status> ChangeSomething();

 private:
  Task<absl::Status> AddFilter(Transaction* change);
  void DropFilter(Transaction* change);
  void ReopenFile(Transaction* change);
  void SetOptions(Transaction* change);
  static void LinkTogether(Child* edge, Node* to, Transaction* change);
  std::vector<Child*> Edges() const;

  Graph& graph_;
  SimRandom& random_;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_RANDOM_CHANGES_H_
