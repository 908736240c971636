#include "drivers/blkdebug.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "google/protobuf/text_format.h"
#include "tests/drivers/filter_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;
using Call = TestDriver::Call;
using Operation = BlkdebugOperation;
using Rules = BlkdebugRules;

constexpr int64_t kDiskBytes = 1 << 20;

constexpr uint32_t Only(Operation operation) { return Rules::Bit(operation); }

// user ─▶ blkdebug ─file─▶ disk
struct House {
  TestDriver* disk = nullptr;
  BlkdebugDriver* debug = nullptr;
  Backend* user = nullptr;
};

Task<House> Build(TestGraph* graph, Rules rules,
                  BlkdebugDriver::Options options = {}) {
  House house;
  house.disk = &graph->Add("disk", kDiskBytes, Unmapping());
  house.debug = co_await AddFilter(
      graph, "debug",
      std::make_unique<BlkdebugDriver>(options, std::move(rules)), house.disk);
  house.user = &graph->Open(*house.debug);
  co_return house;
}

// --- Errors ------------------------------------------------------------------

ENGINE_TEST(Blkdebug, WithoutRulesAllPasses) {
  const House house = co_await Build(graph, {});
  EXPECT_IO_OK(co_await WriteBytes(house.user, 5, 10));
  EXPECT_EQ(co_await ReadBytes(house.user, 4, 12),
            Fill(0, 1) + Fill('w', 10) + Fill(0, 1));
  EXPECT_IO_OK(co_await house.user->Flush());
}

ENGINE_TEST(Blkdebug, GivesExactlyTheErrorAndDoesNothing) {
  for (const int error : {EIO, ENOSPC, EDQUOT, EROFS}) {
    const House house = co_await Build(
        graph, {.errors = {{.when = {.operations = Only(Operation::kWrite)},
                            .error = error}}});
    EXPECT_IO_ERROR(co_await WriteBytes(house.user, 0, 512), error);
    EXPECT_TRUE(house.disk->calls.empty());
    EXPECT_EQ(co_await ReadBytes(house.user, 0, 512), Fill(0, 512));
    co_await graph->Close();
  }
}

// Each operation alone, by what the others do not meet.
ENGINE_TEST(Blkdebug, OperationsAreToldApart) {
  const House house = co_await Build(graph, {});
  constexpr Operation kOperations[] = {
      Operation::kRead,    Operation::kWrite,      Operation::kZero,
      Operation::kDiscard, Operation::kFlush,      Operation::kTruncate,
      Operation::kReserve, Operation::kBlockStatus};
  for (const Operation failing : kOperations) {
    house.debug->SetRules(
        {.errors = {{.when = {.operations = Only(failing)}}}});
    std::vector<int> errors;
    errors.push_back((co_await ReadAway(house.user, 0, 512)).error());
    errors.push_back((co_await WriteBytes(house.user, 0, 512)).error());
    errors.push_back((co_await house.user->Zero(0, 512)).error());
    errors.push_back((co_await house.user->Discard(0, 512)).error());
    errors.push_back((co_await house.user->Flush()).error());
    errors.push_back((co_await house.user->Truncate(kDiskBytes, true)).error());
    errors.push_back((co_await house.user->Reserve(0, 512)).error());
    errors.push_back((co_await house.user->Status(0, 512)).error());
    std::vector<int> expected(errors.size(), 0);
    expected[static_cast<size_t>(failing)] = EIO;
    EXPECT_EQ(errors, expected) << static_cast<int>(failing);
  }
}

ENGINE_TEST(Blkdebug, SkipsAndCounts) {
  const House house = co_await Build(
      graph, {.errors = {{.when = {.skip = 2, .times = 3}, .error = ENOSPC}}});
  std::vector<int> errors;
  errors.reserve(8);
  for (int i = 0; i < 8; ++i) {
    errors.push_back((co_await WriteBytes(house.user, 0, 512)).error());
  }
  EXPECT_EQ(errors, (std::vector<int>{0, 0, ENOSPC, ENOSPC, ENOSPC, 0, 0, 0}));
}

ENGINE_TEST(Blkdebug, ARangeIsWhatARequestTouches) {
  const House house =
      co_await Build(graph, {.errors = {{.when = {.range = {4096, 512}}}}});
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 4096));
  EXPECT_IO_OK(co_await WriteBytes(house.user, 4608, 512));
  EXPECT_IO_ERROR(co_await WriteBytes(house.user, 4095, 2), EIO);
  EXPECT_IO_ERROR(co_await WriteBytes(house.user, 4607, 2), EIO);
  EXPECT_IO_ERROR(co_await ReadAway(house.user, 0, 65536), EIO);
  // What is of all there is matches no less.
  EXPECT_IO_OK(co_await house.user->Flush());
  EXPECT_IO_OK(co_await house.user->Truncate(4096, true));
}

ENGINE_TEST(Blkdebug, TheFirstThatIsDueWinsAndAllCount) {
  const House house = co_await Build(
      graph, {.errors = {{.when = {.skip = 1, .times = 1}, .error = ENOSPC},
                         {.when = {.times = 3}, .error = EIO}}});
  std::vector<int> errors;
  errors.reserve(4);
  for (int i = 0; i < 4; ++i) {
    errors.push_back((co_await WriteBytes(house.user, 0, 512)).error());
  }
  EXPECT_EQ(errors, (std::vector<int>{EIO, ENOSPC, EIO, 0}));
}

ENGINE_TEST(Blkdebug, FailsAtOnceOrATurnLater) {
  const House house =
      co_await Build(graph, {.errors = {{.immediately = true}}});
  auto at_once = Start(WriteBytes(house.user, 0, 512));
  EXPECT_TRUE(at_once->done());
  EXPECT_IO_ERROR(at_once->result(), EIO);
  house.debug->SetRules({.errors = {{}}});
  auto later = Start(WriteBytes(house.user, 0, 512));
  EXPECT_FALSE(later->done());
  EXPECT_IO_ERROR(co_await later->Wait(), EIO);
}

ENGINE_TEST(Blkdebug, AFlushThatFailsIsNotRemembered) {
  const House house = co_await Build(
      graph,
      {.errors = {{.when = {.operations = Only(Operation::kFlush), .times = 1},
                   .error = EDQUOT}}});
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 512));
  EXPECT_IO_ERROR(co_await house.user->Flush(), EDQUOT);
  EXPECT_EQ(house.disk->count(Op::kFlushToDisk), 0);
  EXPECT_IO_OK(co_await house.user->Flush());
  EXPECT_EQ(house.disk->count(Op::kFlushToDisk), 1);
}

// --- Delays ------------------------------------------------------------------

ENGINE_TEST(Blkdebug, DelaysBeforeItIsDone) {
  const House house = co_await Build(
      graph, {.errors = {{.when = {.skip = 1}}},
              .delays = {{.when = {.times = 2}, .delay_ns = 20 * kMsNs}}});
  const int64_t begin = Loop::Current()->NowNs();
  auto first = Start(WriteBytes(house.user, 0, 512));
  co_await Settle();
  EXPECT_FALSE(first->done());
  EXPECT_TRUE(house.disk->calls.empty());
  EXPECT_IO_OK(co_await first->Wait());
  EXPECT_GE(Loop::Current()->NowNs() - begin, 20 * kMsNs);
  // An error comes after the delay.
  EXPECT_IO_ERROR(co_await WriteBytes(house.user, 0, 512), EIO);
  EXPECT_GE(Loop::Current()->NowNs() - begin, 40 * kMsNs);
  const int64_t later = Loop::Current()->NowNs();
  EXPECT_IO_ERROR(co_await WriteBytes(house.user, 0, 512), EIO);
  EXPECT_LT(Loop::Current()->NowNs() - later, 5 * kMsNs);
}

// --- Breakpoints -------------------------------------------------------------

ENGINE_TEST(Blkdebug, SuspendsUntilResumed) {
  const House house = co_await Build(
      graph,
      {.suspends = {
           {.when = {.operations = Only(Operation::kWrite), .range = {0, 4096}},
            .tag = "A"},
           {.when = {.operations = Only(Operation::kRead)}, .tag = "B"}}});
  EXPECT_FALSE(house.debug->IsSuspended("A"));
  EXPECT_FALSE(house.debug->Resume("A"));
  StartedIo started = {Start(WriteBytes(house.user, 0, 512)),
                       Start(WriteBytes(house.user, 512, 512)),
                       Start(ReadAway(house.user, 8192, 512)),
                       Start(WriteBytes(house.user, 4096, 512))};
  co_await SleepNs(100 * kSecondNs);
  EXPECT_EQ(CountDone(started), 1);
  EXPECT_TRUE(house.debug->IsSuspended("A"));
  EXPECT_TRUE(house.debug->IsSuspended("B"));
  EXPECT_FALSE(house.debug->IsSuspended("C"));
  EXPECT_TRUE(house.debug->Resume("A"));
  EXPECT_FALSE(house.debug->IsSuspended("A"));
  EXPECT_FALSE(house.debug->Resume("A"));
  co_await Settle();
  EXPECT_EQ(CountDone(started), 3);
  EXPECT_TRUE(house.debug->Resume("B"));
  co_await WaitAll(started);
}

ENGINE_TEST(Blkdebug, WhatIsSuspendedFailsByTheRulesOfLater) {
  const House house = co_await Build(
      graph,
      {.errors = {{.when = {.operations = Only(Operation::kWrite), .skip = 1},
                   .error = ENOSPC}},
       .suspends = {{.when = {.times = 1}, .tag = "A"}}});
  auto first = Start(WriteBytes(house.user, 0, 512));
  co_await Settle();
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 512));
  house.debug->Resume("A");
  EXPECT_IO_ERROR(co_await first->Wait(), ENOSPC);
}

// --- Drains and new rules ----------------------------------------------------

Task<bool> Begin(Drain* drain) {
  co_await drain->Begin();
  co_return true;
}

ENGINE_TEST(Blkdebug, ADrainLetsGoWhatIsHeld) {
  const House house = co_await Build(
      graph, {.delays = {{.when = {.operations = Only(Operation::kRead)},
                          .delay_ns = 1000 * kSecondNs}},
              .suspends = {{.when = {.operations = Only(Operation::kWrite)},
                            .tag = "A"}}});
  StartedIo started = {Start(WriteBytes(house.user, 0, 512)),
                       Start(ReadAway(house.user, 0, 512))};
  co_await Settle();
  EXPECT_EQ(CountDone(started), 0);
  const int64_t begin = Loop::Current()->NowNs();
  Drain drain({&house.disk->node()});
  auto begun = Start(Begin(&drain));
  co_await Settle();
  EXPECT_TRUE(begun->done());
  EXPECT_EQ(CountDone(started), 2);
  EXPECT_FALSE(house.debug->IsSuspended("A"));
  // Inside nothing is held, though it comes along edges.
  std::string data = Fill('d', 512);
  EXPECT_IO_OK(co_await house.user->root().Write(nullptr, 0, View(data)));
  EXPECT_IO_OK(co_await house.user->root().Read(nullptr, 0, View(data)));
  EXPECT_LT(Loop::Current()->NowNs() - begin, kSecondNs);
  drain.End();
  auto write = Start(WriteBytes(house.user, 0, 512));
  co_await Settle();
  EXPECT_TRUE(house.debug->Resume("A"));
  EXPECT_IO_OK(co_await write->Wait());
}

ENGINE_TEST(Blkdebug, NewRulesReplaceTheOld) {
  const House house = co_await Build(
      graph, {.errors = {{.when = {.times = 1}}}, .suspends = {{.tag = "A"}}});
  auto write = Start(WriteBytes(house.user, 0, 512));
  co_await Settle();
  EXPECT_TRUE(house.debug->IsSuspended("A"));
  house.debug->SetRules({.errors = {{.when = {.times = 1}, .error = EROFS}}});
  EXPECT_FALSE(house.debug->IsSuspended("A"));
  EXPECT_IO_ERROR(co_await write->Wait(), EROFS);
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 512));
  house.debug->SetRules({.errors = {{.when = {.times = 1}, .error = EROFS}}});
  EXPECT_IO_ERROR(co_await WriteBytes(house.user, 0, 512), EROFS);
}

// --- Limits ------------------------------------------------------------------

std::vector<Call> Calls(std::initializer_list<Call> calls) { return calls; }

ENGINE_TEST(Blkdebug, RequestsAreAlignedAndSplit) {
  const House house = co_await Build(graph, {},
                                     {.align = 512,
                                      .max_transfer = 1024,
                                      .opt_write_zero = 2048,
                                      .max_write_zero = 4096,
                                      .opt_discard = 1024,
                                      .max_discard = 2048});
  EXPECT_IO_OK(co_await WriteBytes(house.user, 0, 2560));
  EXPECT_IO_OK(co_await WriteBytes(house.user, 10, 10));
  EXPECT_EQ(house.disk->calls, Calls({{Op::kWrite, 0, 1024},
                                      {Op::kWrite, 1024, 1024},
                                      {Op::kWrite, 2048, 512},
                                      {Op::kRead, 0, 512},
                                      {Op::kWrite, 0, 512}}));
  house.disk->calls.clear();
  EXPECT_IO_OK(co_await house.user->Zero(1024, 8192));
  EXPECT_IO_OK(co_await house.user->Discard(512, 3072));
  EXPECT_EQ(house.disk->calls, Calls({{Op::kZero, 1024, 1024},
                                      {Op::kZero, 2048, 4096},
                                      {Op::kZero, 6144, 2048},
                                      {Op::kZero, 8192, 1024},
                                      {Op::kDiscard, 512, 512},
                                      {Op::kDiscard, 1024, 2048},
                                      {Op::kDiscard, 3072, 512}}));
}

// --- From the configuration --------------------------------------------------

proto::Node ParseNode(const std::string& text) {
  proto::Node node;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &node));
  return node;
}

absl::StatusOr<Rules> RulesOf(const std::string& text) {
  return BlkdebugRulesOf(
      ParseNode(absl::StrCat("blkdebug { ", text, " }")).blkdebug());
}

TEST(BlkdebugRules, AreRead) {
  const auto rules = RulesOf(R"(
    inject_error { operation: WRITE operation: BLOCK_STATUS offset: "10"
                   bytes: "20" skip: 3 times: 4 error: "ENOSPC"
                   immediately: true }
    inject_error { error: "5" once: true }
    inject_delay { operation: FLUSH delay_ms: 7 }
    suspend { operation: DISCARD tag: "A" })");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->errors.size(), 2u);
  const Rules::Error& error = rules->errors[0];
  EXPECT_EQ(error.when.operations,
            Only(Operation::kWrite) | Only(Operation::kBlockStatus));
  EXPECT_EQ(error.when.range.offset, 10);
  EXPECT_EQ(error.when.range.bytes, 20);
  EXPECT_EQ(error.when.skip, 3);
  EXPECT_EQ(error.when.times, 4);
  EXPECT_EQ(error.error, ENOSPC);
  EXPECT_TRUE(error.immediately);
  EXPECT_EQ(rules->errors[1].when.operations, Rules::kAnyOperation);
  EXPECT_EQ(rules->errors[1].when.range.end(), Range::kToInfinity);
  EXPECT_EQ(rules->errors[1].when.times, 1);
  EXPECT_EQ(rules->errors[1].error, 5);
  EXPECT_FALSE(rules->errors[1].immediately);
  ASSERT_EQ(rules->delays.size(), 1u);
  EXPECT_EQ(rules->delays[0].when.operations, Only(Operation::kFlush));
  EXPECT_EQ(rules->delays[0].when.times, Rules::kForever);
  EXPECT_EQ(rules->delays[0].delay_ns, 7 * kMsNs);
  ASSERT_EQ(rules->suspends.size(), 1u);
  EXPECT_EQ(rules->suspends[0].tag, "A");
}

TEST(BlkdebugRules, OfNonsenseAreRefused) {
  EXPECT_EQ(RulesOf("inject_error { error: \"EX\" }").status().message(),
            "error \"EX\" is no errno; give its name, as \"EIO\"");
  EXPECT_EQ(RulesOf("suspend { tag: \"A\" skip: -1 }").status().message(),
            "skip and times count requests; give 0 or more");
  EXPECT_EQ(RulesOf("inject_delay { delay_ms: 9223372036854775807 }")
                .status()
                .message(),
            "delay_ms 9223372036854775807 is no time to wait; give less");
  EXPECT_EQ(RulesOf("suspend { offset: \"x\" }").status().message(),
            "offset \"x\" is not a number of bytes; give one");
}

ENGINE_TEST(Blkdebug, IsOpenedWithRulesAndLimits) {
  const auto node = co_await OpenNode(
      graph->graph(),
      ParseNode("read_only: false blkdebug { align: \"4096\" "
                "inject_error { operation: READ error: \"EROFS\" } "
                "file_inline { memory { size: \"65536\" } } }"),
      OpenContext());
  EXPECT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->limits().request_alignment, 4096);
  Backend& user = graph->Open((*node)->driver());
  EXPECT_IO_ERROR(co_await ReadAway(&user, 0, 1), EROFS);
  const auto odd = co_await OpenNode(
      graph->graph(),
      ParseNode("blkdebug { align: \"3\" file_inline { null {} } }"),
      OpenContext());
  EXPECT_EQ(odd.status().message(), "align 3 is not a power of two; give one");
}

}  // namespace
}  // namespace bgfs
