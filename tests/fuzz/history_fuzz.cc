// A history of concurrent requests on a graph (tests/graph/engine_history.h),
// in which the fuzzer makes the choices that a seed makes elsewhere:
//
//   0  1  the trouble: none, errors or a power cut
//   1  1  how many bytes choose what is asked: 16 times so many, and one
//   2     these, and the history ends with them; what follows chooses the
//         graph, and the order in which its operations end
//
// A cell model checks what is read. An order that has no end is a finding.

#include <cstdint>
#include <string>

#include "tests/fuzz/fuzz_input.h"
#include "tests/graph/engine_history.h"
#include "tests/sim/sim_world.h"

namespace {

// Many times what the longest of the seeded histories takes.
constexpr int64_t kMaxSteps = 1000000;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using bgfs::EngineHistory;
  bgfs::FuzzInput input(data, size);
  const auto trouble =
      static_cast<EngineHistory::Trouble>(input.Take<uint8_t>() % 3);
  const size_t asked_bytes = size_t{input.Take<uint8_t>()} * 16 + 1;
  const bgfs::SimRandom asked(0, std::string(input.TakeBytes(asked_bytes)));
  bgfs::SimWorld world(0,
                       bgfs::SimRandom(0, std::string(input.TakeBytes(size))));
  world.LimitSteps(kMaxSteps);
  EngineHistory(&world, trouble, asked).Run();
  bgfs::AbortIfFailed();
  return 0;
}
