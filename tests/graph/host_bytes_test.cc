// What the engine promises where clients are let past it (graph/host_bytes.h).

#include "graph/host_bytes.h"

#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

// A driver over a file that others write to: it has the size that they gave it.
class HostDriver final : public TestDriver, private HostBytes {
 public:
  explicit HostDriver(int64_t size) : TestDriver(size) { info.size = size; }

  HostBytes* host_bytes() override { return this; }

  FileInfo info;
  bool hold_looks = false;
  int looks = 0;
  WaitQueue held_looks;

 private:
  int descriptor() const override { return -1; }
  Task<IoResult<FileInfo>> Look(Request&) override {
    ++looks;
    const FileInfo seen = info;
    while (hold_looks) co_await held_looks.Wait();
    co_return seen;
  }
};

HostDriver& AddHost(TestGraph* graph, int64_t size) {
  auto driver = std::make_unique<HostDriver>(size);
  HostDriver& host = *driver;
  graph->AddNode("disk", size, std::move(driver));
  return host;
}

ENGINE_TEST(HostBytes, EachFlushOfABypassedNodeGoesToTheDisk) {
  HostDriver& disk = AddHost(graph, 4096);
  Backend& user = graph->Open(disk);
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 1);
  user.LetBypass();
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(disk.count(Op::kFlushToDisk), 3);
}

ENGINE_TEST(HostBytes, WhatIsBelowABypassedNodeIsBypassed) {
  TestDriver& file = graph->Add("file", 4096);
  HostDriver& disk = AddHost(graph, 4096);
  graph->Attach(disk, "file", ChildRole::kFile, file);
  Backend& user = graph->Open(disk);
  user.LetBypass();
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_IO_OK(co_await user.Flush());
  EXPECT_EQ(file.count(Op::kFlushToDisk), 2);
}

ENGINE_TEST(HostBytes, LookingGivesTheNodeItsSize) {
  HostDriver& disk = AddHost(graph, 4096);
  Backend& user = graph->Open(disk);
  int resized = 0;
  user.SetOnResize([&resized] { ++resized; });
  disk.info.size = 8192;
  disk.bytes().resize(8192, 'n');
  disk.info.modified_ns = 5;
  const IoResult<FileInfo> seen = co_await user.Look();
  EXPECT_IO_OK(seen);
  EXPECT_EQ(seen->modified_ns, 5);
  EXPECT_EQ(user.size(), 8192);
  EXPECT_EQ(resized, 1);
  EXPECT_EQ(co_await ReadBytes(&user, 8191, 1), "n");
  disk.info.size = kMaxNodeBytes + 1;
  EXPECT_IO_ERROR(co_await user.Look(), EFBIG);
  EXPECT_EQ(user.size(), 8192);
  user.SetOnResize(nullptr);
}

// What was seen before a truncate is not the size after it.
ENGINE_TEST(HostBytes, NoTruncateComesBetweenALookAndTheSize) {
  HostDriver& disk = AddHost(graph, 4096);
  Backend& user = graph->Open(disk);
  disk.hold_looks = true;
  auto look = Start(user.Look());
  co_await Settle();
  EXPECT_EQ(disk.looks, 1);
  auto truncate = Start(user.Truncate(512, true));
  co_await Settle();
  EXPECT_EQ(disk.count(Op::kTruncate), 0);
  disk.hold_looks = false;
  disk.held_looks.WakeAll();
  co_await Settle();
  EXPECT_IO_OK(truncate->result());
  EXPECT_EQ(user.size(), 512);

  disk.info.size = 512;
  disk.Hold(Op::kTruncate);
  auto second = Start(user.Truncate(1024, true));
  co_await Settle();
  auto after = Start(user.Look());
  co_await Settle();
  EXPECT_EQ(disk.looks, 1) << "a truncate is under way";
  disk.info.size = 1024;
  disk.Release(Op::kTruncate);
  co_await Settle();
  EXPECT_IO_OK(second->result());
  EXPECT_IO_OK(after->result());
  EXPECT_EQ(user.size(), 1024);
}

}  // namespace
}  // namespace bgfs
