// A history: seeded workers that read, write, zero, discard, flush, truncate
// and drain a random graph in a simulated world, all at once and over each
// other, while the graph changes under them, checked against a CellModel.

#ifndef BGFS_TESTS_GRAPH_ENGINE_HISTORY_H_
#define BGFS_TESTS_GRAPH_ENGINE_HISTORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/async/sync.h"
#include "graph/backend.h"
#include "tests/graph/cell_model.h"
#include "tests/graph/checked_requests.h"
#include "tests/graph/random_changes.h"
#include "tests/graph/random_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {

class EngineHistory {
 public:
  enum class Trouble : uint8_t { kNone, kErrors, kPowerCut };

  EngineHistory(SimWorld* world, Trouble trouble);
  // `random` says what is asked, and for how long if it is made of choices; the
  // world's own, what becomes of it.
  EngineHistory(SimWorld* world, Trouble trouble, SimRandom random);

  // Runs it all; failures are the test's.
  void Run();
  std::string Describe() const;

 private:
  // No truncate makes it smaller, no write larger.
  static constexpr int64_t kSmallest = 8192;
  static constexpr int64_t kCapacity = 24576;

  Task<void> RunWorkers();
  Task<void> RunWorker(Backend* backend, InFlight::Holder holder);
  Task<void> RunDrains(InFlight::Holder holder);
  Task<void> RunChanges(InFlight::Holder holder);
  Task<void> Finish();

  void ExpectFine(const std::string& wrong);
  void Fail(const std::string& what);

  SimWorld* const world_;
  SimRandom random_;
  const Trouble trouble_;
  const bool resizable_;
  const int64_t size_;
  CellModel model_;
  RandomGraph graph_;
  CheckedRequests requests_;
  std::vector<std::unique_ptr<Backend>> backends_;
  Mutex changing_;  // the graph, or holding a part of it still
  InFlight running_;
  bool failed_ = false;
};

// Runs the histories of the seeds 1 to `seeds`, or of BGFS_SEED.
void RunHistories(int seeds, EngineHistory::Trouble trouble);

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_ENGINE_HISTORY_H_
