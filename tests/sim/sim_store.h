// SimStore: one file as the page cache shows it and as the disk would after the
// power fails. Every change goes to the cache and waits in a list until a sync
// makes it durable. When the power is cut, each waiting change may be kept or
// lost, sector by sector, as the disk may have written them in any order:
//   * a sector of a write, a punch or a zero range is kept or lost on its own;
//     what is kept of a write past the end makes the file long enough for it;
//   * changes of size and allocations are steps of a journal: those up to some
//     point are kept, later ones lost.

#ifndef BGFS_TESTS_SIM_SIM_STORE_H_
#define BGFS_TESTS_SIM_SIM_STORE_H_

#include <cstdint>
#include <deque>

#include "tests/sim/sim_image.h"
#include "tests/sim/sim_random.h"

namespace bgfs {

class SimStore {
 public:
  // What a program sees.
  const SimImage& cached() const { return cached_; }

  void Change(SimChange change);
  // How many changes there were so far: what a sync that starts now covers.
  int64_t changes() const {
    return settled_ + static_cast<int64_t>(pending_.size());
  }
  // A sync that covers the first `covered` changes has succeeded.
  void Sync(int64_t covered);
  // It has failed: what it did not write is clean in the cache, so that no
  // later sync writes it, or gone from there too, with this chance.
  void FailSync(int64_t covered, double forgets, SimRandom* random);
  void CutPower(SimRandom* random);

 private:
  void Forget(int64_t covered);

  SimImage cached_;
  SimImage durable_;
  std::deque<SimChange> pending_;
  int64_t settled_ = 0;  // changes no longer pending
};

}  // namespace bgfs

#endif  // BGFS_TESTS_SIM_SIM_STORE_H_
