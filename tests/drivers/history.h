// A history: a seeded run of everything a disk can be asked for, checked
// against a byte model. It runs on any loop, real or simulated, as one task.
//
// In a round, workers run at the same time, each in slots of its own, which lie
// interleaved at odd offsets, so that neighbours share blocks; one may grow the
// disk meanwhile. Then one thing happens alone: a large request, a resize. Then
// all bytes and the block status are compared with the model.

#ifndef BGFS_TESTS_DRIVERS_HISTORY_H_
#define BGFS_TESTS_DRIVERS_HISTORY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "drivers/open_context.h"
#include "graph/async/sync.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "tests/sim/sim_random.h"

namespace bgfs {

class History {
 public:
  struct Subject {
    proto::Node spec;
    bool resizable = true;
    bool forgets = false;  // reads as zeros whatever was written
    int rounds = 4;
    int workers = 4;
    int requests = 25;  // of each worker in a round
  };

  // The node that `subject` opens has the content `content` at first.
  History(Graph* graph, Subject subject, std::string content, uint64_t seed);

  // Opens the node, runs, closes the graph. Failures are the test's.
  Task<void> Run();
  // What the disk holds now.
  const std::string& content() const { return model_; }
  bool failed() const { return failed_; }

 private:
  int64_t size() const { return static_cast<int64_t>(model_.size()); }
  void Expect(const char* what, Range range, int error);
  Task<void> RunRound();
  Task<void> RunWorker(int worker, InFlight::Holder holder);
  Task<void> RunGrower(InFlight::Holder holder);
  Range PickInSlot(int worker);
  Range PickAnywhere();
  Task<void> DoSomething(Range range);
  Task<void> Write(Range range);
  Task<void> Zero(Range range);
  Task<void> Discard(Range range);
  Task<void> Reserve(Range range);
  Task<void> Compare(Range range);
  Task<void> Resize();
  Task<void> CompareStatus();

  Graph* const graph_;
  const Subject subject_;
  SimRandom random_;
  std::string model_;
  bool failed_ = false;
  std::unique_ptr<Backend> backend_;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_DRIVERS_HISTORY_H_
