// Any bytes as the text of a configuration: read, validated and planned.

#include <cstdint>
#include <string>

#include "tests/config/check_text.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bgfs::config::CheckText(
      std::string(bgfs::FuzzInput(data, size).TakeBytes(size)));
  bgfs::AbortIfFailed();
  return 0;
}
