// A history of a qcow2 image: several lives of a process that writes it at
// random, each ended by closing the image, by a kill that leaves the page cache
// or by a power cut, at any operation; errors may be injected at any time. All
// of it comes from one seed.
//
// In a life two backends, on the image's home and on another loop, make
// requests of all kinds at once, over each other, and every answer must be
// explained by a CellModel. Between lives the image is judged:
//
//   closed    a check finds nothing that was not there before
//   crashed   a check finds nothing but leaks and clear COPIED flags (what
//             refcounts say counts only if the image is not marked dirty);
//             opened again, it shows every byte that was flushed, and of the
//             others the old or the new ones
//   always    layers below, the internal snapshot and the image's own mark of
//             damage are as they were

#ifndef BGFS_TESTS_DRIVERS_QCOW2_IMAGE_HISTORY_H_
#define BGFS_TESTS_DRIVERS_QCOW2_IMAGE_HISTORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "drivers/qcow2/check.h"
#include "graph/backend.h"
#include "tests/drivers/qcow2/random_chain.h"
#include "tests/graph/cell_model.h"
#include "tests/graph/checked_requests.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {

class ImageHistory {
 public:
  // What happens; kMixed: everything.
  enum class Kind : uint8_t { kPlain, kErrors, kPowerCut, kKill, kMixed };

  struct Totals {
    int64_t lives = 0;
    int64_t cuts = 0;
    int64_t kills = 0;
    int64_t requests = 0;
    int64_t file_ops = 0;
  };

  ImageHistory(uint64_t seed, Kind kind);

  // Lets qemu-img judge as well, in this folder.
  void AskQemu(std::string folder) { folder_ = std::move(folder); }

  // Tells of all that happens, and leaves the image after each life in this
  // folder.
  void Trace(std::string folder);

  // Runs it all. Empty, or what is wrong first.
  std::string Run();
  const Totals& totals() const { return totals_; }
  std::string Describe() const;

 private:
  enum class End : uint8_t { kClose, kKill, kPowerCut };

  struct Life {
    End end = End::kClose;
    bool errors = false;
    int64_t ops = 0;     // until it crashes,
    int64_t syncs = -1;  // if not negative: from the start of this sync on
    int workers = 6;
    int requests = 30;  // of each worker
  };

  Life PickLife(bool last);
  void RunLife(const Life& life);
  void InjectErrors();
  void Crash(End end);
  Task<void> OpenNodes(bool read_only);
  Task<void> CloseNodes();
  // Compares the disk with what a crash may have left, and goes on from there.
  Task<void> ReadAfterCrash(bool read_only);
  void RunWorkers(const Life& life);
  Task<void> RunWorker(Backend* backend, int requests);
  Task<void> RunDrains(int64_t users);
  Task<void> Idle();

  void Judge(bool closed);
  static int64_t LeaksPast(const CheckReport& report, int64_t end);
  void JudgeReport(const CheckReport& report, bool closed);
  void JudgeWithQemu(bool closed);
  void JudgeSnapshot();

  bool ErrorsAllowed() { return faulty_ || disk().dead(); }
  void Fail(const std::string& what);
  static void Say(const std::string& what);
  SimDisk& disk() { return world_.disk(); }

  const Kind kind_;
  SimWorld world_;
  SimRandom random_;
  SimLoop* elsewhere_;
  RandomChain chain_;
  CellModel model_;
  const bool resizable_;
  CheckedRequests requests_;
  std::string folder_;
  std::string trace_folder_;

  std::unique_ptr<Graph> graph_;
  std::vector<std::unique_ptr<Backend>> backends_;
  int64_t running_ = 0;   // tasks
  bool faulty_ = false;   // errors may come from the disk
  bool crashed_ = false;  // and not read since
  bool cut_ = false;      // the last crash was one of power
  bool ever_crashed_ = false;
  int64_t failed_syncs_ = 0;
  // A failed sync has lost what was in the page cache, under a live process
  // that may have taken this for damage of the image;
  bool lost_ = false;
  bool spoiled_ = false;  // it has, and only a repair may write the image
  // What was flushed last while the size stood still, and how many requests
  // had begun to change it by then.
  int64_t durable_size_ = 0;
  int64_t durable_resizes_ = 0;
  int64_t closed_size_ = -1;  // at the end of a life without errors
  int64_t leaks_ = 0;         // that the last check found
  int64_t image_end_ = 0;     // what it saw of the file
  Totals totals_;
  std::string failure_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_IMAGE_HISTORY_H_
