// The one source of chance of a simulated world: the same numbers from the same
// seed on every machine (std's distributions promise no such thing).
//
// A fuzzer makes its own chance: bytes that say what each draw gives, as few of
// them for each as its limit needs. When they are used up the seed goes on, so
// that whatever has begun comes to its end.

#ifndef BGFS_TESTS_SIM_SIM_RANDOM_H_
#define BGFS_TESTS_SIM_SIM_RANDOM_H_

#include <cstdint>
#include <string>
#include <utility>

#include "graph/async/check.h"

namespace bgfs {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed, std::string choices = {})
      : state_(seed), choices_(std::move(choices)) {}

  // Whether there were choices, and all of them were made.
  bool spent() const { return !choices_.empty() && left() == 0; }

  uint64_t Next() { return left() > 0 ? Choose(sizeof(uint64_t)) : Draw(); }
  // 0 … limit - 1; limit > 0.
  int64_t Below(int64_t limit) {
    BGFS_CHECK(limit > 0);
    const auto unsigned_limit = static_cast<uint64_t>(limit);
    if (left() == 0) return static_cast<int64_t>(Draw() % unsigned_limit);
    size_t bytes = 1;
    while (bytes < sizeof(uint64_t) &&
           ((unsigned_limit - 1) >> (8 * bytes)) != 0) {
      ++bytes;
    }
    return static_cast<int64_t>(Choose(bytes) % unsigned_limit);
  }
  // first … last, both included.
  int64_t Between(int64_t first, int64_t last) {
    return first + Below(last - first + 1);
  }
  double Uniform() {
    if (left() > 0) return static_cast<double>(Choose(1)) * 0x1p-8;
    return static_cast<double>(Draw() >> 11) * 0x1p-53;
  }
  bool Chance(double probability) { return Uniform() < probability; }

 private:
  size_t left() const { return choices_.size() - chosen_; }

  // The next bytes, little-endian.
  uint64_t Choose(size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && left() > 0; ++i) {
      value |= uint64_t{static_cast<uint8_t>(choices_[chosen_++])} << (8 * i);
    }
    return value;
  }
  // splitmix64.
  uint64_t Draw() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t value = state_;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }

  uint64_t state_;
  std::string choices_;
  size_t chosen_ = 0;
};

}  // namespace bgfs

#endif  // BGFS_TESTS_SIM_SIM_RANDOM_H_
