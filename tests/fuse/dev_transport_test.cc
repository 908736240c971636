#include "fuse/dev_transport.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include "fuse/unique_fd.h"
#include "graph/async/make_loop.h"

namespace bgfs::fuse {
namespace {

std::atomic<int> refusals;

void* MapLater(size_t bytes) {
  return refusals-- > 0 ? MAP_FAILED : SlotPool::MapMemory(bytes);
}

// Answers everything.
class Answerer final : public Transport::Handler {
 public:
  void OnRequest(Exchange* exchange) override { exchange->Reply(0); }
  void OnEnd() override {}
};

// A transport whose kernel is the other end of a socket.
class DevTransportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = MakeLoop("test");
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    kernel_ = UniqueFd(ends[0]);
    ASSERT_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    transport_ = std::make_unique<DevTransport>(
        loop_.get(), Device(UniqueFd(ends[1])), MapLater);
  }
  void TearDown() override { BlockOn(*loop_, End(&transport_)); }

  void Start() { BlockOn(*loop_, Begin(transport_.get(), &answerer_)); }
  void Ask() {
    fuse_in_header header = {};
    header.len = sizeof(header);
    header.opcode = FUSE_DESTROY;
    header.unique = 7;
    ASSERT_EQ(write(kernel_.get(), &header, sizeof(header)),
              ssize_t{sizeof(header)});
  }
  // The `unique` of the next reply.
  uint64_t Answer() {
    fuse_out_header header = {};
    EXPECT_EQ(read(kernel_.get(), &header, sizeof(header)),
              ssize_t{sizeof(header)});
    return header.unique;
  }

 private:
  static Task<void> Begin(DevTransport* transport, Answerer* answerer) {
    transport->Start(answerer);
    co_return;
  }
  static Task<void> End(std::unique_ptr<DevTransport>* transport) {
    co_await (*transport)->Stop();
    transport->reset();
  }

  std::unique_ptr<HostLoop> loop_;
  UniqueFd kernel_;
  Answerer answerer_;
  std::unique_ptr<DevTransport> transport_;
};

TEST_F(DevTransportTest, AsksForMemoryAgainWhereThereIsNoneForTheFirst) {
  refusals = 2;
  Start();
  Ask();
  EXPECT_EQ(Answer(), 7u);
  EXPECT_LT(refusals, 0);
}

TEST_F(DevTransportTest, StopsWhileMemoryIsShort) {
  refusals = 1 << 30;
  Start();
  Ask();
}

}  // namespace
}  // namespace bgfs::fuse
