// SimDisk: the files of a simulated world, on a disk that lies as far as real
// ones may. SimFile is the body of File on it.
//
// Operations end in any order, after seeded delays, some at once. A write takes
// its bytes from memory when it starts or when it ends, and may reach the file
// page by page; a read fills its memory when it ends. Transfers may be short,
// EINTR happens. What is written is in the page cache, and durable only after a
// sync that started later has succeeded (sim_store.h).
//
//   Kill()      the process dies: of what is in flight, some parts happen and
//               some never do. The page cache stays.
//   PowerCut()  the same, then all that is not durable may be lost or torn.
//
// After either, the coroutines of the dead process still run, as tasks always
// run to completion, but as ghosts: every operation fails with EIO and changes
// nothing. Restart() then starts a new process, once nothing
// of the old one is left to do; files opened before stay ghosts. So a test
// reads:
//
//   disk.AfterOps(n, [&] { disk.PowerCut(); });
//   world.Run(Workload(...));    // ends early, with errors, when n is met
//   disk.Restart();
//   world.Run(Check(...));
//
// It is a bug, and ends the test, to destroy a file under an operation.

#ifndef BGFS_TESTS_SIM_SIM_DISK_H_
#define BGFS_TESTS_SIM_SIM_DISK_H_

#include <cerrno>
#include <cstdint>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "graph/async/file.h"
#include "tests/sim/sim_store.h"

namespace bgfs {

class SimFile;
class SimLoop;
class SimWorld;
struct SimOp;

// Makes operations fail, on command.
struct SimFault {
  std::string path = {};                  // empty: any file
  std::optional<FileOp::Kind> kind = {};  // none: any operation
  int64_t offset = 0;                     // of ranges that meet this one
  int64_t bytes = std::numeric_limits<int64_t>::max();
  int64_t skip = 0;   // so many that match are spared first
  int64_t count = 1;  // then so many are met
  int error = EIO;    // 0: succeeds, but transfers at most short_bytes
  int64_t short_bytes = 0;
};

class SimDisk {
 public:
  // May be changed at any time.
  struct Options {
    double at_once = 0.3;  // chance that a buffered transfer ends at once,
    double short_transfer = 0.05;  // that one is short,
    double interrupted = 0.02;     // that one ends with EINTR,
    double in_pages = 0.25;        // that a write goes page by page,
    // that the cache drops what a failed sync has not written.
    double forgets_failed = 0.5;
    // Where a write that is short or fails may end: before a multiple of so
    // many bytes of the file. A format that relies on whole sectors says 512.
    int64_t write_unit = 1;
    int64_t capacity_bytes = std::numeric_limits<int64_t>::max();
    // Of files opened with O_DIRECT.
    int64_t request_alignment = 512;
    int64_t memory_alignment = 512;
  };

  explicit SimDisk(SimWorld* world);
  ~SimDisk();

  Options& options() { return options_; }

  // At once and durably, as if it had always been there.
  void Create(const std::string& path, absl::string_view content);
  void CreateSparse(const std::string& path, int64_t size_bytes);
  void CreateDevice(const std::string& path, int64_t size_bytes);
  void Remove(const std::string& path);
  // What a program would read now.
  const SimImage& Image(const std::string& path) const;
  std::string Content(const std::string& path) const;
  int64_t AllocatedBytes() const;  // of all files

  void Kill();
  void PowerCut();
  void Restart();
  bool dead() const { return dead_; }
  // Runs `action` just before the operation that follows the next `count` ones;
  // one at a time.
  void AfterOps(int64_t count, absl::AnyInvocable<void()> action);
  // The same, counted from the start of the sync that follows the next `syncs`
  // ones: the moments that an order of writes is about.
  void AfterSyncs(int64_t syncs, int64_t ops,
                  absl::AnyInvocable<void()> action);
  int64_t ops_started() const { return ops_started_; }
  // Syncs of the file that have started, in all, and syncs of any file that
  // have failed.
  int64_t syncs(const std::string& path) const { return Find(path).syncs; }
  int64_t failed_syncs() const { return failed_syncs_; }

  // Told of each operation that ends.
  void SetTrace(absl::AnyInvocable<void(const std::string&)> trace) {
    trace_ = std::move(trace);
  }

  void Inject(SimFault fault) { faults_.push_back(std::move(fault)); }
  void ClearFaults() { faults_.clear(); }
  // No operation on the file ends until it is released.
  void Hang(const std::string& path);
  void Release(const std::string& path);
  int64_t in_flight() const { return static_cast<int64_t>(ops_.size()); }

  // Locks of another program, which `holder` names.
  void LockElsewhere(const std::string& path, int64_t byte, bool exclusive,
                     std::string holder);
  void UnlockElsewhere(const std::string& path);

  // For the world.
  Task<IoResult<std::unique_ptr<File>>> Open(SimLoop* loop, std::string path,
                                             OpenOptions options);
  void PrintInFlight() const;

 private:
  friend class SimFile;

  struct Lock {
    const SimFile* owner;  // null: another program
    int64_t byte;
    bool exclusive;
    std::string holder;
  };
  struct Inode {
    std::string path;
    uint64_t number = 0;
    bool device = false;
    bool hung = false;
    SimStore store;
    std::vector<Lock> locks;
    std::vector<SimOp*> parked;  // ended but for the hanging
    int64_t syncs = 0;
  };

  Inode& Find(const std::string& path);
  const Inode& Find(const std::string& path) const;
  Inode* Add(const std::string& path);
  void Die(bool power_too);

  static std::string Describe(const SimOp& op);

  // The way of an operation: it is planned when it starts, begun when the disk
  // first looks at it, done in one or more parts, and finished.
  bool Start(SimFile* file, FileOp* op);  // as File::Start
  void StartQuery(SimFile* file, Completion* completion);
  SimOp* NewOp(SimFile* file, Completion* completion, FileOp* op);
  int Refusal(const SimOp& op) const;
  // What a copy reads.
  static const SimImage& SourceOf(const SimOp& op);
  void Plan(SimOp* op);
  bool TakeFault(SimOp* op);
  void EndAtUnit(SimOp* op) const;
  void ContinueLater(SimOp* op);
  void Continue(SimOp* op);
  void Begin(SimOp* op);
  void FitCapacity(SimOp* op);
  void DoPart(SimOp* op);
  void Finish(SimOp* op);

  SimWorld* const world_;
  Options options_;
  std::map<std::string, std::shared_ptr<Inode>> inodes_;
  std::list<std::unique_ptr<SimOp>> ops_;  // in flight
  std::vector<SimFault> faults_;
  uint64_t next_inode_ = 1;
  int64_t incarnation_ = 0;
  bool dead_ = false;
  int64_t ops_started_ = 0;
  int64_t failed_syncs_ = 0;
  int64_t syncs_left_ = -1;  // before action_ops_ counts
  int64_t action_ops_ = 0;
  int64_t action_at_ = -1;  // ops_started_ before which action_ runs
  absl::AnyInvocable<void()> action_;
  absl::AnyInvocable<void(const std::string&)> trace_;
};

class SimFile final : public File {
 public:
  ~SimFile() override;

  bool Start(FileOp* op) override { return disk_->Start(this, op); }
  Task<IoResult<FileInfo>> Stat() override;
  Task<IoResult<int64_t>> SeekData(int64_t offset) override;
  Task<IoResult<int64_t>> SeekHole(int64_t offset) override;
  IoStatus LockShared(int64_t byte) override;
  IoStatus Unlock(int64_t byte) override;
  IoResult<bool> WouldConflict(int64_t byte) override;
  std::string DescribeLockHolders() override;

 private:
  friend class SimDisk;

  SimFile(SimDisk* disk, SimLoop* loop, std::shared_ptr<SimDisk::Inode> inode,
          OpenOptions options)
      : disk_(disk),
        loop_(loop),
        inode_(std::move(inode)),
        options_(options),
        incarnation_(disk->incarnation_) {}

  bool ghost() const {
    return disk_->dead_ || incarnation_ != disk_->incarnation_;
  }
  // co_await Query(this) waits as a system call would.
  struct Query;

  SimDisk* const disk_;
  SimLoop* const loop_;
  const std::shared_ptr<SimDisk::Inode> inode_;
  const OpenOptions options_;
  const int64_t incarnation_;
  int64_t in_flight_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_SIM_SIM_DISK_H_
