// Says, for as long as every loop turns, that the daemon lives: each loop beats
// by a timer of its own, and the last of a round tells. A loop that hangs, in a
// system call that does not come back, misses its round, and nothing is told.

#ifndef BGFS_CONFIG_CLI_WATCHDOG_H_
#define BGFS_CONFIG_CLI_WATCHDOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "graph/async/loop.h"

namespace bgfs::cli {

class Watchdog {
 public:
  // A round takes `period_ns`. `feed` is called on any of the loops, and must
  // not wait. The loops outlive this, and are told to end after it.
  Watchdog(const std::vector<Loop*>& loops, int64_t period_ns,
           std::function<void()> feed);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  // Waits for no loop: `feed` may be called a last time by one that turns.
  ~Watchdog();

 private:
  struct Round;

  const std::shared_ptr<Round> round_;  // the beats' as well
};

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_WATCHDOG_H_
