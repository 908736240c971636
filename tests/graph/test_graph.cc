#include "tests/graph/test_graph.h"

#include <algorithm>

#include "tests/sim/sim_world.h"

namespace bgfs {

TestDriver& TestGraph::Add(std::string name, int64_t size,
                           NodeOptions options) {
  auto driver = std::make_unique<TestDriver>(size);
  TestDriver& added = *driver;
  AddNode(std::move(name), size, std::move(driver), std::move(options));
  return added;
}

TestDriver& TestGraph::Add(std::string name, int64_t size, const Limits& limits,
                           NodeOptions options) {
  TestDriver& driver = Add(std::move(name), size, std::move(options));
  driver.wanted_limits = limits;
  driver.node().RefreshLimits();
  return driver;
}

Node& TestGraph::AddNode(std::string name, int64_t size,
                         std::unique_ptr<Driver> driver, NodeOptions options) {
  if (options.name.empty()) options.name = std::move(name);
  Node* node = graph_.AddNode(std::move(options), std::move(driver));
  node->SetSize(size);
  return *node;
}

Child& TestGraph::Attach(Driver& parent, std::string name, ChildRole role,
                         Driver& child) {
  auto edge = parent.node().AttachChild(std::move(name), role, &child.node());
  EXPECT_TRUE(edge.ok()) << edge.status();
  return **edge;
}

Backend& TestGraph::Open(Driver& driver, PermissionSet permissions) {
  auto backend = Backend::Create("test", &driver.node(), permissions);
  EXPECT_TRUE(backend.ok()) << backend.status();
  backends_.push_back(*std::move(backend));
  return *backends_.back();
}

void TestGraph::Drop(Backend& backend) {
  backends_.erase(std::find_if(
      backends_.begin(), backends_.end(),
      [&backend](const auto& held) { return held.get() == &backend; }));
}

Task<void> TestGraph::Close() {
  backends_.clear();
  (co_await graph_.Close()).IgnoreError();
}

Task<std::string> ReadBytes(Backend* backend, int64_t offset, int64_t bytes) {
  std::string data = Fill('?', bytes);
  const IoStatus status = co_await backend->Read(offset, View(data));
  EXPECT_IO_OK(status);
  if (!status.ok()) data.clear();
  co_return data;
}

namespace {

Task<void> RunAndClose(EngineTestBody body, Loop* loop) {
  TestGraph graph(loop);
  co_await body(&graph);
  co_await graph.Close();
}

}  // namespace

void RunEngineTest(EngineTestBody body) {
  SimWorld world(/*seed=*/1);
  world.Run(RunAndClose(body, &world.loop()));
}

}  // namespace bgfs
