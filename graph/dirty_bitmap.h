// Dirty bitmaps (engine.md, 2.12): which parts of a node have changed since
// somebody looked. Jobs and persistent bitmaps build on them.
//
//   enabled ──Disable()──▶ disabled         changes are not recorded
//      │ ◀──Enable()──────
//      └─Freeze()─▶ frozen  stands still; its successor records in its stead
//                     ├─Abdicate()─▶ the successor takes its place
//                     └─Reclaim()──▶ it goes on, with what the successor saw
//
// A busy bitmap belongs to an operation: it is not removed, cleared, frozen,
// enabled or disabled by anybody else. A frozen one is busy.
//
// The bits are kept as runs of dirty units, so that a whole node of any size
// costs one entry; a run takes about 20 bytes.

#ifndef BGFS_GRAPH_DIRTY_BITMAP_H_
#define BGFS_GRAPH_DIRTY_BITMAP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/types.h"

namespace bgfs {

// The runs, in bytes that are whole units. Offsets need not be aligned.
class DirtyBits {
 public:
  // A power of two.
  explicit DirtyBits(int64_t granularity) : granularity_(granularity) {}

  int64_t granularity() const { return granularity_; }
  // Whole units around the range.
  void Set(const Range& range);
  // Units that lie inside the range: what is dirty beside it stays so.
  void Clear(const Range& range);
  bool IsSet(int64_t offset) const;
  // The first dirty part of `within`; empty if there is none.
  Range Next(const Range& within) const;
  // Of whole units, so it may be more than the node has.
  int64_t dirty_bytes() const { return dirty_bytes_; }
  void MergeFrom(const DirtyBits& other);

 private:
  const int64_t granularity_;
  absl::btree_map<int64_t, int64_t> runs_;  // begin to end; never adjacent
  int64_t dirty_bytes_ = 0;
};

// Used at home.
class DirtyBitmap {
 public:
  static constexpr int64_t kMinGranularity = 512;
  static constexpr int64_t kMaxGranularity = int64_t{1} << 31;
  static constexpr int64_t kDefaultGranularity = int64_t{64} << 10;
  static constexpr size_t kMaxNameBytes = 1023;

  DirtyBitmap(std::string name, int64_t granularity)
      : name_(std::move(name)), bits_(granularity) {}
  DirtyBitmap(const DirtyBitmap&) = delete;
  DirtyBitmap& operator=(const DirtyBitmap&) = delete;

  const std::string& name() const { return name_; }  // may be empty
  DirtyBits& bits() { return bits_; }
  const DirtyBits& bits() const { return bits_; }
  bool enabled() const { return enabled_; }
  bool frozen() const { return successor_ != nullptr; }
  bool busy() const { return busy_ || frozen(); }

  // For the operation that it then belongs to.
  void SetBusy(bool busy) { busy_ = busy; }

  // FAILED_PRECONDITION while it is busy.
  absl::Status SetEnabled(bool enabled);
  absl::Status Clear();
  // An anonymous successor, enabled if this one is.
  absl::Status Freeze();

  // Of a frozen one.
  void Abdicate();  // forgets its own bits
  void Reclaim();   // adds the successor's

 private:
  friend class DirtyBitmaps;

  absl::Status CheckFree(absl::string_view what) const;
  // Where changes are recorded now.
  DirtyBits& recording() { return frozen() ? *successor_ : bits_; }

  const std::string name_;
  DirtyBits bits_;
  std::unique_ptr<DirtyBits> successor_;
  bool enabled_ = true;
  bool busy_ = false;
};

// Those of one node.
class DirtyBitmaps {
 public:
  bool empty() const { return bitmaps_.empty(); }

  // INVALID_ARGUMENT for a granularity that is no power of two between 512
  // bytes and 2 GiB, or a name too long; ALREADY_EXISTS for a name that is
  // taken.
  absl::StatusOr<DirtyBitmap*> Add(std::string name, int64_t granularity);
  DirtyBitmap* Find(absl::string_view name) const;  // not for anonymous ones
  absl::Status Remove(DirtyBitmap* bitmap);
  const std::vector<std::unique_ptr<DirtyBitmap>>& bitmaps() const {
    return bitmaps_;
  }

  // The range has changed, or may have.
  void Changed(const Range& range);
  // The node got shorter: nothing is there any more.
  void Cut(int64_t size_bytes);

 private:
  std::vector<std::unique_ptr<DirtyBitmap>> bitmaps_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_DIRTY_BITMAP_H_
