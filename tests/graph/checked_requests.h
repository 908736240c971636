// CheckedRequests: random requests to a disk, with every flag that requests
// know, each checked against a CellModel when it ends. What has changed must
// also be in the dirty bitmap "history" of the disk's node, if there is one.
// Any number of tasks may use one at the same time, on any loop of a simulated
// world.

#ifndef BGFS_TESTS_GRAPH_CHECKED_REQUESTS_H_
#define BGFS_TESTS_GRAPH_CHECKED_REQUESTS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "graph/backend.h"
#include "graph/graph.h"
#include "tests/graph/cell_model.h"
#include "tests/sim/sim_random.h"

namespace bgfs {

class CheckedRequests {
 public:
  struct Options {
    // Where on the disk the model's cells begin; nothing below is touched.
    int64_t base = 0;
    // No request lies behind `largest`, none makes the disk smaller than
    // `smallest`; in bytes from `base`. Equal for a disk that keeps its size.
    int64_t smallest = 0;
    int64_t largest = 0;
    int64_t cluster = 4096;  // some requests cover one exactly
    // With every flag that requests know, and writes of zeros, which may be
    // detected; the disk is open for writing.
    bool all_flags = false;
    // Whether any request may fail now. A disk that changes its size may
    // always refuse what lies behind its end.
    std::function<bool()> errors_allowed;
    // Whether what was not flushed may be lost already; if given.
    std::function<bool()> forgets = nullptr;
    // Told what is wrong, and of each request that has ended; if given.
    std::function<void(const std::string&)> fail;
    std::function<void(const std::string&)> trace = nullptr;
  };

  // Both outlive this.
  CheckedRequests(Options options, CellModel* model, SimRandom* random)
      : options_(std::move(options)), model_(*model), random_(*random) {}

  bool resizable() const { return options_.smallest < options_.largest; }
  int64_t requests() const { return requests_; }
  // Requests that may have changed the size: those that have begun, and those
  // of them that have not ended.
  int64_t resizes() const { return resizes_; }
  int64_t resizing() const { return resizing_; }

  // A request of a random kind.
  Task<void> DoSomething(Backend* backend);
  // Drains a random part of the graph, while at most `users` tasks make
  // requests.
  Task<void> DrainSomething(const Graph* graph, int64_t users);

  Task<void> Read(Backend* backend, Range range);
  // What is said to be zero must be so at some moment meanwhile.
  Task<void> CheckStatus(Backend* backend, Range range);
  Task<void> Write(Backend* backend, Range range);
  Task<void> Zero(Backend* backend, Range range);
  Task<void> Discard(Backend* backend, Range range);
  Task<void> Reserve(Backend* backend, Range range);
  Task<void> Truncate(Backend* backend);
  // Gives whether it succeeded.
  Task<bool> Flush(Backend* backend);

 private:
  class ResizeCount;

  Range PickRange();
  RequestFlags PickFlags();
  // Success where the flags ask for this very error.
  static IoStatus Excused(RequestFlags flags, IoStatus status);
  void CheckDirty(const Backend& backend, Range range);
  bool MayResize(Range range) const {
    return resizable() && range.end() > options_.smallest;
  }
  // `refusable`: where the range may lie behind the end of the disk.
  void Expect(const char* what, IoStatus status, Range range,
              bool refusable = false);
  void ExpectRead(int64_t start, int64_t offset, const std::string& data);

  const Options options_;
  CellModel& model_;
  SimRandom& random_;
  int64_t requests_ = 0;
  int64_t resizes_ = 0;
  int64_t resizing_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_CHECKED_REQUESTS_H_
