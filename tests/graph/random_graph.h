// Random graphs of raw, memory, file and copy-on-write nodes in a simulated
// world, for histories.

#ifndef BGFS_TESTS_GRAPH_RANDOM_GRAPH_H_
#define BGFS_TESTS_GRAPH_RANDOM_GRAPH_H_

#include <cstdint>
#include <string>

#include "graph/graph.h"
#include "proto/bgfs.pb.h"
#include "tests/sim/sim_world.h"

namespace bgfs {

class RandomGraph {
 public:
  // The node at the top has `size` bytes and holds change 1 of a CellModel in
  // all of its cells; layers below may be shorter or longer.
  RandomGraph(SimWorld* world, int64_t size);

  Graph& graph() { return graph_; }
  // "cow(direct(4096), cow(memory, raw(file)))"
  const std::string& description() const { return description_; }
  Node* top() const { return top_; }

  // Builds the graph; on its loop.
  Task<void> Build();

  // Whether what the top node has flushed lies in a file as it is, and what
  // that file holds.
  bool durable() const { return !path_.empty(); }
  std::string DurableContent() const;

 private:
  // Each gives a node with the first `size` bytes of the content (or zeros),
  // and adds to the description.
  Task<Node*> Layer(int depth, int64_t size, bool content);
  Task<Node*> File(int64_t size, bool content);
  Task<Node*> Memory(int64_t size, bool content);
  Task<Node*> Raw(int depth, int64_t size, bool content);
  Task<Node*> Cow(int depth, int64_t size, bool content);
  Task<Node*> Open(const std::string& spec);
  proto::DetectZeroes::Mode PickDetectZeroes();
  // Fills a node through a backend of its own.
  Task<void> Fill(Node* node, Range range);

  SimWorld* const world_;
  const int64_t size_;
  Graph graph_;
  Node* top_ = nullptr;
  std::string description_;
  std::string path_;
  int64_t offset_in_file_ = 0;
  int files_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_RANDOM_GRAPH_H_
