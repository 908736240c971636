// Which layer of a chain a read goes to (chain_map.h).

#include "graph/chain_map.h"

#include "graph/drain.h"
#include "tests/graph/test_graph.h"

namespace bgfs {
namespace {

using Op = TestDriver::Op;

constexpr int64_t kGranule = ChainMap::kGranule;
constexpr int64_t kSize = 8 * kGranule;

// user ─▶ top ─▶ upper ─▶ lower ─▶ base, of which the middle two have nothing
// unless the test says so.
struct Chain {
  explicit Chain(TestGraph* graph, int64_t size = kSize)
      : base(graph->Add("base", size)),
        lower(graph->Add("lower", size)),
        upper(graph->Add("upper", size)),
        top(graph->Add("top", size)),
        map(&top.node()) {
    graph->Attach(lower, "backing", ChildRole::kBacking, base);
    graph->Attach(upper, "backing", ChildRole::kBacking, lower);
    graph->Attach(top, "backing", ChildRole::kBacking, upper);
    for (TestDriver* layer : {&lower, &upper}) HasNothing(layer);
    user = &graph->Open(top);
    base.bytes() = Fill('b', static_cast<int64_t>(base.bytes().size()));
    lower.bytes() = Fill('l', static_cast<int64_t>(lower.bytes().size()));
    upper.bytes() = Fill('u', static_cast<int64_t>(upper.bytes().size()));
  }

  static void HasNothing(TestDriver* layer) { Has(layer, {0, 0}); }
  // The layer decides `range` and leaves the rest to those below.
  static void Has(TestDriver* layer, Range range) {
    layer->block_status = [range](int64_t offset, int64_t) {
      BlockStatus status;
      status.bytes = kSize;
      if (offset < range.offset) status.bytes = range.offset - offset;
      if (offset >= range.offset && offset < range.end()) {
        status.flags = BlockStatus::kData | BlockStatus::kAllocated;
        status.bytes = range.end() - offset;
      }
      return status;
    };
  }

  // What the driver of top does; empty when the map does not work or fails.
  Task<std::string> Read(int64_t offset, int64_t bytes) {
    auto hold = top.node().in_flight().Hold();
    Request request(top.node(), nullptr, RequestKind::kRead, {offset, bytes},
                    0);
    request.Run();
    const ChainMap::Use use(&map);
    if (!use.works()) co_return "";
    std::string data = Fill('?', bytes);
    for (int64_t done = 0; done < bytes;) {
      ChainMap::Piece piece = map.Find(offset + done, bytes - done);
      if (piece.bytes == 0) {
        const auto walked =
            co_await map.Resolve(request, offset + done, bytes - done);
        if (!walked.ok()) co_return "";
        piece = *walked;
      }
      const IoStatus status =
          co_await map.Read(request, piece.layer, offset + done,
                            IoView(data.data() + done, piece.bytes));
      if (!status.ok()) co_return "";
      done += piece.bytes;
    }
    co_return data;
  }
  int walks() const { return upper.count(Op::kStatus); }

  TestDriver& base;
  TestDriver& lower;
  TestDriver& upper;
  TestDriver& top;
  ChainMap map;
  Backend* user = nullptr;
};

ENGINE_TEST(ChainMap, AWarmReadGoesToTheLayerThatDecides) {
  Chain chain(graph);
  Chain::Has(&chain.lower, {2 * kGranule, 2 * kGranule});
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
  EXPECT_EQ(co_await chain.Read(2 * kGranule, 512), Fill('l', 512));
  EXPECT_EQ(co_await chain.Read(4 * kGranule, 512), Fill('b', 512));
  EXPECT_EQ(chain.walks(), 3);
  EXPECT_EQ(co_await chain.Read(2 * kGranule - 512, 1024),
            Fill('b', 512) + Fill('l', 512));
  EXPECT_EQ(co_await chain.Read(kSize - 512, 512), Fill('b', 512));
  EXPECT_EQ(chain.walks(), 3);
  EXPECT_EQ(chain.upper.count(Op::kRead), 0);
  EXPECT_EQ(chain.lower.count(Op::kRead), 2);
}

ENGINE_TEST(ChainMap, AGranuleMayBeDecidedBySeveralLayers) {
  Chain chain(graph);
  Chain::Has(&chain.upper, {512, 512});
  Chain::Has(&chain.lower, {kGranule - 512, kGranule});
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(co_await chain.Read(0, 2 * kGranule),
              Fill('b', 512) + Fill('u', 512) + Fill('b', kGranule - 1536) +
                  Fill('l', kGranule) + Fill('b', 512));
  }
}

ENGINE_TEST(ChainMap, AShorterLayerReadsAsZerosPastItsEnd) {
  Chain chain(graph);
  chain.lower.node().SetSize(kGranule + 512);
  EXPECT_EQ(co_await chain.Read(0, kGranule), Fill('b', kGranule));
  EXPECT_EQ(co_await chain.Read(2 * kGranule, 512), Fill('\0', 512));
  EXPECT_EQ(co_await chain.Read(kGranule, 1024),
            Fill('b', 512) + Fill('\0', 512));
  EXPECT_EQ(co_await chain.Read(2 * kGranule, 512), Fill('\0', 512));
}

ENGINE_TEST(ChainMap, WorksOnlyWhileNobodyMayChangeALayer) {
  Chain chain(graph);
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
  Backend& writer = graph->Open(
      chain.lower, {kConsistentRead | kWriteUnchanged, kAllPermissions});
  EXPECT_EQ(co_await chain.Read(0, 512), "");
  graph->Drop(writer);
  // What was remembered is forgotten: the layer has changed.
  Chain::Has(&chain.lower, {0, kGranule});
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('l', 512));
}

ENGINE_TEST(ChainMap, AChangeOfRightsIsSeenUnderLoad) {
  Chain chain(graph);
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
  chain.base.Hold(Op::kRead);
  auto reading = Start(chain.Read(0, 512));
  co_await Settle();
  Backend& reader = graph->Open(chain.base, {kConsistentRead, kAllPermissions});
  EXPECT_EQ(co_await chain.Read(0, 512), "") << "the old layers are in use";
  chain.base.Release(Op::kRead);
  co_await Settle();
  EXPECT_EQ(reading->result(), Fill('b', 512));
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
  graph->Drop(reader);
}

ENGINE_TEST(ChainMap, OverOneLayerThereIsNothingToSkip) {
  TestDriver& base = graph->Add("base", kSize);
  TestDriver& top = graph->Add("top", kSize);
  graph->Attach(top, "backing", ChildRole::kBacking, base);
  graph->Open(top);
  ChainMap map(&top.node());
  EXPECT_FALSE(ChainMap::Use(&map).works());
  co_return;
}

ENGINE_TEST(ChainMap, AReadIsInFlightOnEveryLayerThatItSkips) {
  Chain chain(graph);
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
  chain.base.Hold(Op::kRead);
  auto reading = Start(chain.Read(0, 512));
  co_await Settle();
  EXPECT_EQ(chain.upper.node().in_flight().count(), 1);
  EXPECT_EQ(chain.lower.node().in_flight().count(), 1);
  chain.base.Release(Op::kRead);
  co_await Settle();
  EXPECT_EQ(reading->result(), Fill('b', 512));
  EXPECT_EQ(chain.upper.node().in_flight().count(), 0);
  EXPECT_EQ(chain.lower.node().in_flight().count(), 0);
}

ENGINE_TEST(ChainMap, AnErrorIsNotRemembered) {
  Chain chain(graph);
  chain.lower.Fail(Op::kStatus, EIO);
  EXPECT_EQ(co_await chain.Read(0, 512), "");
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
  chain.base.Fail(Op::kRead, EIO);
  EXPECT_EQ(co_await chain.Read(0, 512), "");
  EXPECT_EQ(co_await chain.Read(0, 512), Fill('b', 512));
}

ENGINE_TEST(ChainMap, ItsMemoryIsBounded) {
  constexpr int64_t kPageBytes = ChainMap::kGranulesPerPage * kGranule;
  constexpr auto kPages = static_cast<int64_t>(ChainMap::kMaxPages) + 3;
  Chain chain(graph, 512);
  for (TestDriver* layer : {&chain.base, &chain.lower, &chain.upper}) {
    layer->node().SetSize(kPages * kPageBytes);
  }
  Request request(chain.top.node(), nullptr, RequestKind::kRead, {0, 512}, 0);
  request.Run();
  const ChainMap::Use use(&chain.map);
  EXPECT_TRUE(use.works());
  for (int64_t page = 0; page < kPages; ++page) {
    const int64_t at = page * kPageBytes;
    EXPECT_IO_OK(co_await chain.map.Resolve(request, at, 512));
    EXPECT_EQ(chain.map.Find(at, 512).bytes, 512);
  }
  EXPECT_EQ(chain.map.pages(), ChainMap::kMaxPages);
  EXPECT_EQ(chain.map.Find(0, 512).bytes, 0);
  chain.map.Forget();
  EXPECT_EQ(chain.map.pages(), 0U);
}

}  // namespace
}  // namespace bgfs
