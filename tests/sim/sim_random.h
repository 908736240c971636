// The one source of chance of a simulated world: the same numbers from the same
// seed on every machine (std's distributions promise no such thing).

#ifndef BGFS_TESTS_SIM_SIM_RANDOM_H_
#define BGFS_TESTS_SIM_SIM_RANDOM_H_

#include <cstdint>

#include "graph/async/check.h"

namespace bgfs {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}

  // splitmix64.
  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t value = state_;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }
  // 0 … limit - 1; limit > 0.
  int64_t Below(int64_t limit) {
    BGFS_CHECK(limit > 0);
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(limit));
  }
  // first … last, both included.
  int64_t Between(int64_t first, int64_t last) {
    return first + Below(last - first + 1);
  }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double probability) { return Uniform() < probability; }

 private:
  uint64_t state_;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_SIM_SIM_RANDOM_H_
