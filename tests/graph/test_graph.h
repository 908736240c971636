// What the engine's tests share: a graph of test drivers on a loop, backends
// on it, and requests that are started and looked at while they are under way.
//
//   ENGINE_TEST(Suite, Name) {             // runs as a task on the graph's
//   loop
//     TestDriver& disk = graph->Add("disk", 4096);
//     Backend& user = graph->Open(disk);
//     disk.Hold(TestDriver::kWrite);
//     auto write = Start(user.Write(0, data));
//     co_await Settle();
//     EXPECT_FALSE(write->done());
//     ...
//
// ASSERT_* does not work in a coroutine; EXPECT_* does.

#ifndef BGFS_TESTS_GRAPH_TEST_GRAPH_H_
#define BGFS_TESTS_GRAPH_TEST_GRAPH_H_

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/async/loop.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "gtest/gtest.h"
#include "tests/graph/test_driver.h"

namespace bgfs {

class TestGraph {
 public:
  // `loop` is the home.
  explicit TestGraph(Loop* loop, GraphObserver* observer = nullptr)
      : graph_(loop, observer) {}

  Graph& graph() { return graph_; }

  // A node of `size` zeros. What `options` leaves unnamed is named `name`.
  TestDriver& Add(std::string name, int64_t size, NodeOptions options = {});
  TestDriver& Add(std::string name, int64_t size, const Limits& limits,
                  NodeOptions options = {});
  // Any driver, which the graph then owns.
  Node& AddNode(std::string name, int64_t size, std::unique_ptr<Driver> driver,
                NodeOptions options = {});
  // An edge; the test fails when it is refused.
  Child& Attach(Driver& parent, std::string name, ChildRole role,
                Driver& child);
  // A backend with all rights by default, which the graph keeps.
  Backend& Open(Driver& driver,
                PermissionSet permissions = {kAllPermissions, kAllPermissions});
  // Drops a backend early.
  void Drop(Backend& backend);
  // Drops all backends and closes the graph.
  Task<void> Close();

 private:
  Graph graph_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

// A task that was started and may have ended.
template <typename T>
class Started {
 public:
  bool done() const { return result_.has_value(); }
  // What it gave; the test fails when it has not ended.
  const T& result() const {
    EXPECT_TRUE(done()) << "still under way";
    if (!done()) std::abort();
    return *result_;
  }
  Task<T> Wait() {
    co_await ended_.Wait();
    co_return *result_;
  }

  static Task<void> Run(Task<T> task, std::shared_ptr<Started> started) {
    started->result_.emplace(co_await std::move(task));
    started->ended_.Set();
  }

 private:
  std::optional<T> result_;
  Event ended_;
};

template <typename T>
std::shared_ptr<Started<T>> Start(Task<T> task) {
  auto started = std::make_shared<Started<T>>();
  Spawn(Started<T>::Run(std::move(task), started));
  return started;
}

// Lets everything that can run, run, until all wait for the test.
inline Task<void> Settle() {
  for (int turn = 0; turn < 64; ++turn) co_await Loop::Current()->Yield();
}

inline IoView View(std::string& bytes) {
  return IoView(bytes.data(), static_cast<int64_t>(bytes.size()));
}

inline std::string Fill(char with, int64_t bytes) {
  return std::string(static_cast<size_t>(bytes), with);
}

inline NodeOptions Unmapping() {
  NodeOptions options;
  options.unmap = true;
  return options;
}

inline Limits Aligned(int64_t request_alignment) {
  Limits limits;
  limits.request_alignment = request_alignment;
  return limits;
}

// Reads through `backend`; empty when it fails.
Task<std::string> ReadBytes(Backend* backend, int64_t offset, int64_t bytes);

using EngineTestBody = Task<void> (*)(TestGraph*);
void RunEngineTest(EngineTestBody body);

#define EXPECT_IO_OK(expression) EXPECT_EQ((expression).error(), 0)
#define EXPECT_IO_ERROR(expression, errno_value) \
  EXPECT_EQ((expression).error(), errno_value)

#define ENGINE_TEST(suite, name)                           \
  static ::bgfs::Task<void> suite##name##Body(TestGraph*); \
  TEST(suite, name) { RunEngineTest(&suite##name##Body); } \
  static ::bgfs::Task<void> suite##name##Body(TestGraph* graph)

}  // namespace bgfs

#endif  // BGFS_TESTS_GRAPH_TEST_GRAPH_H_
