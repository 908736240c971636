// Operations of a fuzzer on a disk whose image may be anything, with a model of
// what the disk reads as if the image is sound.

#ifndef BGFS_TESTS_FUZZ_DISK_OPS_H_
#define BGFS_TESTS_FUZZ_DISK_OPS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "graph/async/sync.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {

// As it stands in an input.
struct DiskOp {
  uint8_t kind = 0;    // modulo those there are
  uint8_t flags = 0;   // bits below
  uint16_t bytes = 0;  // how many
  uint32_t place = 0;  // where, modulo what there is
};
static_assert(sizeof(DiskOp) == 8);

class DiskRun {
 public:
  // The qcow2 image `path` of the world, whose disk is modelled when it is
  // `sound`.
  DiskRun(SimWorld* world, std::string path, bool writable, bool sound)
      : world_(world),
        path_(std::move(path)),
        writable_(writable),
        sound_(sound) {}

  // Opens the image, does all of it and closes the image: one operation after
  // the other, each checked, or `together`, and nothing is checked.
  void Run(const std::vector<DiskOp>& operations, bool together);

 private:
  enum class Kind : uint8_t {
    kRead,
    kStatus,
    kWrite,
    kZero,
    kDiscard,
    kReserve,
    kTruncate,
    kFlush,
  };
  static constexpr uint8_t kKinds = 8;
  // Flags.
  static constexpr uint8_t kAligned = 1 << 0;  // to 512 bytes
  static constexpr uint8_t kFarAway = 1 << 1;  // near the end of the disk
  static constexpr uint8_t kMayUnmapIt = 1 << 2;
  static constexpr uint8_t kLarge = 1 << 3;  // 16 times as many bytes

  // So much of the disk, at its start, is modelled; what is far away lies
  // behind it.
  static constexpr int64_t kModelled = 128 << 10;

  Task<void> OpenAndRun(const std::vector<DiskOp>* operations, bool together);
  Task<void> RunTogether(Backend* backend,
                         const std::vector<DiskOp>* operations);
  Task<void> RunOne(Backend* backend, DiskOp op, InFlight::Holder holder);
  Task<void> Do(Backend* backend, DiskOp op);
  Range PickRange(const Backend& backend, const DiskOp& op) const;
  Task<void> LearnContent(Backend* backend);
  Task<void> Read(Backend* backend, Range range);
  Task<void> Status(Backend* backend, Range range);
  Task<void> Write(Backend* backend, Range range, uint32_t tag);
  Task<void> Zero(Backend* backend, Range range, RequestFlags flags);
  Task<void> Discard(Backend* backend, Range range);
  Task<void> Reserve(Backend* backend, Range range);
  Task<void> Truncate(Backend* backend, int64_t size);
  Task<void> Flush(Backend* backend);

  // Whether the model knows the range, and what is expected there.
  bool Knows(Range range) const {
    return modelled_ && range.end() <= kModelled;
  }
  void Put(Range range, absl::string_view data);
  // A request that a sound image cannot refuse; false if it did.
  bool Succeeds(const char* what, IoStatus status) const;

  SimWorld* const world_;
  const std::string path_;
  const bool writable_;
  const bool sound_;
  bool modelled_ = false;
  // The first kModelled bytes, or fewer if the disk is smaller.
  std::string model_;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_FUZZ_DISK_OPS_H_
