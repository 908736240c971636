#include "tests/sim/sim_store.h"

#include <algorithm>
#include <utility>

namespace bgfs {
namespace {

// Applies some of the first `count` changes to `image`.
void ApplySome(const std::deque<SimChange>& changes, int64_t count,
               SimRandom* random, SimImage* image) {
  // Nothing or everything is kept often enough to be met in few runs.
  const int64_t luck = random->Below(4);
  const double keep = luck == 0 ? 0 : luck == 1 ? 1 : random->Uniform();
  bool journal_goes_on = true;
  for (int64_t i = 0; i < count; ++i) {
    const SimChange& change = changes[static_cast<size_t>(i)];
    if (!change.Tears()) {
      journal_goes_on = journal_goes_on && random->Chance(keep);
      if (journal_goes_on) image->Apply(change);
      continue;
    }
    const bool torn = random->Chance(0.5);
    const bool whole = random->Chance(keep);
    for (int64_t done = 0; done < change.bytes;) {
      const int64_t at = change.offset + done;
      const int64_t here = std::min(SimImage::kSector - at % SimImage::kSector,
                                    change.bytes - done);
      if (torn ? random->Chance(keep) : whole) {
        image->Apply(change.Part(done, here));
      }
      done += here;
    }
  }
}

}  // namespace

void SimStore::Change(SimChange change) {
  cached_.Apply(change);
  pending_.push_back(std::move(change));
}

void SimStore::Forget(int64_t covered) {
  while (settled_ < covered) {
    pending_.pop_front();
    ++settled_;
  }
}

void SimStore::Sync(int64_t covered) {
  for (int64_t i = settled_; i < covered; ++i) {
    durable_.Apply(pending_[static_cast<size_t>(i - settled_)]);
  }
  Forget(covered);
}

void SimStore::FailSync(int64_t covered, double forgets, SimRandom* random) {
  if (covered <= settled_) return;
  ApplySome(pending_, covered - settled_, random, &durable_);
  Forget(covered);
  if (!random->Chance(forgets)) return;
  cached_ = durable_;
  for (const SimChange& change : pending_) cached_.Apply(change);
}

void SimStore::CutPower(SimRandom* random) {
  ApplySome(pending_, std::ssize(pending_), random, &durable_);
  Forget(changes());
  cached_ = durable_;
}

}  // namespace bgfs
