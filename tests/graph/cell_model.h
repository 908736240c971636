// What a disk may contain while many requests are under way: an oracle for
// concurrent histories.
//
// The disk is seen as cells of 64 bytes. Every write has a number of its own
// and writes that number and the cell's into each of its cells, so a cell tells
// who wrote it, where, and whether it is torn. A cell may hold what a write put
// there unless that was overwritten: another write began after the first had
// ended, and ended as well. So a read is explained by some order of the writes
// that overlap in time, or it is a failure. After a power cut the same holds,
// but only writes that a flush covers overwrite.
//
//   time   ├─ write 2 ─┤   ├─ write 3 ─┤  ├─ read: 3 or 4 ─┤
//                                ├───── write 4 ──────┤
//
// Where several are allowed a cell may mix them, byte by byte: nothing orders
// requests of the same time, and a disk may do each in several steps.
//
// What failed, and a discard, may have happened or not, in each cell: it is
// allowed and overwrites nothing.
//
// After a crash the disk is read, compared with what may have survived, and
// what was found there is a change like others, so that a history goes on.

#ifndef BGFS_TESTS_GRAPH_CELL_MODEL_H_
#define BGFS_TESTS_GRAPH_CELL_MODEL_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "graph/types.h"

namespace bgfs {

class CellModel {
 public:
  static constexpr int64_t kCell = 64;

  // A write, zero, discard or truncate.
  struct Change {
    int64_t number = 0;  // in each of its cells; 0 for zeros
    Range range;         // whole cells
    int64_t start = 0;
    int64_t end = std::numeric_limits<int64_t>::max();  // not yet
    bool certain = false;
    bool durable = false;    // by itself, without a flush
    std::string found = {};  // by a reader, instead of what the number says
  };

  // Cells below `content_bytes` hold change number 1, those up to
  // `capacity_bytes` zeros.
  CellModel(int64_t content_bytes, int64_t capacity_bytes);
  // Each cell holds the change with its number: 0 zeros, 1 or below others.
  explicit CellModel(absl::Span<const int64_t> numbers);

  int64_t capacity() const {
    return static_cast<int64_t>(cells_.size()) * kCell;
  }
  // The bytes that the change with this number writes there.
  static std::string Content(int64_t number, Range range);

  // `zeros`: as a change of number 0.
  Change* Begin(Range range, bool zeros);
  // `certain`: it has happened, in all of its cells. `durable`: and stays.
  void End(Change* change, bool certain, bool durable = false);

  // When a read or flush begins.
  int64_t Now() { return ++now_; }
  int64_t now() const { return now_; }
  // A read that began at `start` has given `data`: an empty string, or what is
  // wrong.
  std::string CheckRead(int64_t start, int64_t offset, const std::string& data);
  // All that ended before `start` is durable.
  void Flushed(int64_t start) {
    if (start > durable_) durable_ = start;
  }
  // As CheckRead, for what a power cut has left.
  std::string CheckDurable(const std::string& content) const;
  // A crash is over and has left `content`, which CheckDurable() allowed; all
  // changes before it have ended. `durable`: the next crash leaves it, too.
  void GoOnWith(const std::string& content, bool durable);
  // Until the crash that must follow, reads say nothing: the disk has failed to
  // flush, and forgets what it was told.
  void Forget() { forgets_ = true; }

 private:
  struct Entry {
    const Change* change;
    int64_t overwritten = std::numeric_limits<int64_t>::max();  // when
  };
  using Cell = std::vector<Entry>;

  static std::string ContentOf(const Change& change, int64_t cell);
  // The newest start of what a crash cannot undo.
  int64_t LastDurable(int64_t cell) const;
  std::string Recognize(const std::string& data) const;
  // Compares a cell with what it may hold.
  std::string CheckCell(int64_t cell, const std::string& data,
                        absl::FunctionRef<bool(const Entry&)> allowed) const;

  int64_t now_ = 1;
  int64_t next_number_ = 2;
  int64_t durable_ = 0;
  bool forgets_ = false;
  std::vector<std::unique_ptr<Change>> changes_;
  std::vector<Cell> cells_;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_CELL_MODEL_H_
