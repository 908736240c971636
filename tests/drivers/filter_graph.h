// What the tests of filters share: a filter over a test driver, in simulated
// time.

#ifndef BGFS_TESTS_DRIVERS_FILTER_GRAPH_H_
#define BGFS_TESTS_DRIVERS_FILTER_GRAPH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/drain.h"
#include "tests/graph/test_graph.h"

namespace bgfs {

constexpr int64_t kMsNs = 1000000;
constexpr int64_t kSecondNs = 1000 * kMsNs;

// Adds `driver`, a FilterDriver, over `below`. Both nodes give space back.
template <typename DriverType>
Task<DriverType*> AddFilter(TestGraph* graph, std::string name,
                            std::unique_ptr<DriverType> driver, Driver* below) {
  DriverType* const added = driver.get();
  graph->AddNode(std::move(name), 0, std::move(driver), Unmapping());
  graph->Attach(*added, "file", ChildRole::kFilter, *below);
  EXPECT_TRUE((co_await added->Open()).ok());
  co_return added;
}

inline Task<void> SleepNs(int64_t ns) {
  Loop* const loop = Loop::Current();
  co_await loop->SleepUntil(loop->NowNs() + ns);
}

// Memory for one request that lives as long as the request.
inline Task<IoStatus> WriteBytes(Backend* user, int64_t offset, int64_t bytes) {
  std::string data = Fill('w', bytes);
  co_return co_await user->Write(offset, View(data));
}
inline Task<IoStatus> ReadAway(Backend* user, int64_t offset, int64_t bytes) {
  std::string data = Fill('?', bytes);
  co_return co_await user->Read(offset, View(data));
}

using StartedIo = std::vector<std::shared_ptr<Started<IoStatus>>>;

inline int CountDone(const StartedIo& started) {
  int done = 0;
  for (const auto& each : started) done += each->done() ? 1 : 0;
  return done;
}

inline Task<void> WaitAll(const StartedIo& started) {
  for (const auto& each : started) EXPECT_IO_OK(co_await each->Wait());
}

}  // namespace bgfs

#endif  // BGFS_TESTS_DRIVERS_FILTER_GRAPH_H_
