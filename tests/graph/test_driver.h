// A driver over bytes in memory that does what a test tells it to: it has the
// limits and the change window the test sets, keeps calls waiting until the
// test lets them go, fails on demand, and remembers what it was called with.
//
// It also holds the engine to its word, and fails the test when it is handed
// something unaligned or too large, or a request beside a running one that it
// conflicts with.

#ifndef BGFS_TESTS_GRAPH_TEST_DRIVER_H_
#define BGFS_TESTS_GRAPH_TEST_DRIVER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/async/sync.h"
#include "graph/driver.h"
#include "graph/request.h"

namespace bgfs {

class TestDriver : public Driver {
 public:
  enum class Op : uint8_t {
    kRead,
    kWrite,
    kZero,
    kDiscard,
    kReserve,
    kTruncate,
    kFlushToOs,
    kFlushToDisk,
    kStatus,
    kCopy,  // as the target
    kWindow,
  };
  static constexpr size_t kOps = static_cast<size_t>(Op::kWindow) + 1;
  template <typename T>
  struct PerOp {
    std::array<T, kOps> values{};
    T& operator[](Op op) { return values[static_cast<size_t>(op)]; }
    const T& operator[](Op op) const { return values[static_cast<size_t>(op)]; }
  };

  struct Call {
    Op op;
    int64_t offset = 0;
    int64_t bytes = 0;
    RequestFlags flags = 0;  // a zero's argument, a write's request.flags()
    const void* memory = nullptr;      // of a read or write in one piece
    const Request* request = nullptr;  // only to compare with
    const Request* parent = nullptr;   // of the request
    bool operator==(const Call& other) const {
      return op == other.op && offset == other.offset && bytes == other.bytes;
    }
  };

  explicit TestDriver(int64_t size) : bytes_(static_cast<size_t>(size), 0) {}

  // What the test sets.
  Limits wanted_limits;  // then node().RefreshLimits()
  std::function<Range(const Request&)> window;
  std::function<BlockStatus(int64_t offset, int64_t bytes)> block_status;
  bool copies = false;            // is a leaf that offloads copies
  PerOp<bool> refused;            // answers ENOTSUP
  bool fua = false;               // has_fua()
  bool truncates_exactly = true;  // else a failed truncate has grown already
  Child* forward_to = nullptr;    // a filter: reads and writes go there

  // Calls of `op` wait from now on, until Release() lets all go, or
  // ReleaseOne() the first of them.
  void Hold(Op op) { held_[op] = true; }
  void Release(Op op);
  void ReleaseOne(Op op);
  int waiting(Op op) const { return waiting_[op]; }
  // The next `times` calls of `op` that begin after `skip` others fail; a write
  // then has written half of its bytes.
  void Fail(Op op, int error, int times = 1, int skip = 0) {
    failures_[op] = {error, times, skip};
  }

  // What it was called with, without kWindow.
  std::vector<Call> calls;
  int windows_asked = 0;
  int count(Op op) const;
  Preallocation preallocation = Preallocation::kOff;  // of the last truncate
  int drains = 0;  // OnDrainBegin() less OnDrainEnd()
  int children_resized = 0;
  std::string& bytes() { return bytes_; }

  absl::string_view format_name() const override { return "test"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  bool has_fua() const override { return fua; }
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoStatus> FlushToOs() override;
  Task<IoStatus> FlushToDisk() override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  Task<IoResult<Range>> ChangeWindow(const Request& request) override;
  Task<IoStatus> CopyRangeFrom(Request& request, int64_t offset, int64_t bytes,
                               CopyTarget target) override;
  Task<IoStatus> CopyRangeTo(Request& request, int64_t offset, int64_t bytes,
                             CopySource source) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;
  void RefreshLimits(Limits* limits) override;
  void OnChildResized(Child&) override { ++children_resized; }
  void OnDrainBegin() override { ++drains; }
  void OnDrainEnd() override { --drains; }
  PermissionSet ChildPermissions(const Child& child,
                                 const PermissionSet& users) const override;

 private:
  struct Failure {
    int error = 0;
    int times = 0;
    int skip = 0;
  };
  // A request in the driver's hands, for as long as a call lasts.
  class Active;

  // Records the call, waits where calls are held, and says how it ends.
  Task<IoStatus> Enter(Call call);
  void CheckAligned(Op op, int64_t offset, int64_t bytes) const;
  void CheckTransfer(Op op, int64_t offset, const IoView& data) const;

  std::string bytes_;
  PerOp<bool> held_;
  PerOp<int> waiting_;
  PerOp<WaitQueue> queues_;
  PerOp<Failure> failures_;
  std::vector<const Request*> active_;
};

std::ostream& operator<<(std::ostream& out, const TestDriver::Call& call);

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_TEST_DRIVER_H_
