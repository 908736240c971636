// What fuzzing targets share: the fuzzer's bytes, taken from the front as
// numbers, and the end of a run in which an expectation of gtest failed.

#ifndef BGFS_TESTS_FUZZ_FUZZ_INPUT_H_
#define BGFS_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace bgfs {

// Bytes that are no longer there are zeros.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  absl::string_view rest() const { return rest_; }

  template <typename T>
  T Take() {
    T value = {};
    const absl::string_view bytes = TakeBytes(sizeof(T));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  // At most `bytes`.
  absl::string_view TakeBytes(size_t bytes) {
    const absl::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(taken.size());
    return taken;
  }

 private:
  absl::string_view rest_;
};

// A fuzzer knows a finding by the death of the process. What failed has been
// printed.
inline void AbortIfFailed() {
  if (testing::Test::HasFailure()) std::abort();
}

}  // namespace bgfs

#endif  // BGFS_TESTS_FUZZ_FUZZ_INPUT_H_
