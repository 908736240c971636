// A small graph with a copy-on-write node, for tests of what is copied when.

#ifndef BGFS_TESTS_GRAPH_COW_GRAPH_H_
#define BGFS_TESTS_GRAPH_COW_GRAPH_H_

#include <memory>
#include <utility>

#include "tests/graph/cow_driver.h"
#include "tests/graph/test_graph.h"

namespace bgfs {

// A cow node of four clusters over a file and a backing layer of 'b's.
struct Cow {
  static constexpr int64_t kCluster = 4096;

  explicit Cow(TestGraph* graph)
      : file(graph->Add("file", 0)), base(graph->Add("base", 4 * kCluster)) {
    base.bytes() = Fill('b', 4 * kCluster);
    auto owned = std::make_unique<CowDriver>(kCluster);
    driver = owned.get();
    graph->AddNode("cow", 0, std::move(owned), Unmapping());
    graph->Attach(*driver, "file", ChildRole::kFile, file);
    graph->Attach(*driver, "backing", ChildRole::kBacking, base);
    driver->OpenWith(4 * kCluster);
    driver->node().RefreshLimits();
    user = &graph->Open(*driver);
  }
  TestDriver& file;
  TestDriver& base;
  CowDriver* driver;
  Backend* user;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_COW_GRAPH_H_
