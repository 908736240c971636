#include "fuse/wire.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>

namespace bgfs::fuse {
namespace {

template <typename T>
std::string Bytes(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Message(uint32_t opcode, const std::string& body) {
  fuse_in_header header = {};
  header.len = static_cast<uint32_t>(sizeof(header) + body.size());
  header.opcode = opcode;
  header.unique = 77;
  header.nodeid = 5;
  header.uid = 11;
  header.gid = 12;
  header.pid = 13;
  return Bytes(header) + body;
}

IoStatus DecodeString(const std::string& message, FuseRequest* request) {
  return Decode(absl::MakeConstSpan(message.data(), message.size()), request);
}

TEST(Wire, DecodesHeaderAndRead) {
  fuse_read_in in = {};
  in.offset = 4096;
  in.size = 512;
  FuseRequest request;
  ASSERT_TRUE(DecodeString(Message(FUSE_READ, Bytes(in)), &request).ok());
  EXPECT_EQ(request.unique, 77u);
  EXPECT_EQ(request.node_id, 5u);
  EXPECT_EQ(request.uid, 11u);
  EXPECT_EQ(request.gid, 12u);
  EXPECT_EQ(request.pid, 13u);
  EXPECT_EQ(request.args.read.offset, 4096u);
  EXPECT_EQ(request.args.read.size, 512u);
}

TEST(Wire, PointsAtTheDataOfAWrite) {
  fuse_write_in in = {};
  in.size = 3;
  const std::string message = Message(FUSE_WRITE, Bytes(in) + "abcd");
  FuseRequest request;
  ASSERT_TRUE(DecodeString(message, &request).ok());
  ASSERT_EQ(request.data.size(), 3u);
  EXPECT_EQ(request.data.data(), message.data() + 80);
}

TEST(Wire, RefusesWhatIsTooShort) {
  fuse_write_in write = {};
  write.size = 5;
  FuseRequest request;
  const std::string short_data = Message(FUSE_WRITE, Bytes(write) + "abcd");
  EXPECT_EQ(DecodeString(short_data, &request).error(), EINVAL);
  EXPECT_EQ(request.unique, 77u);

  std::string cut = Message(FUSE_READ, Bytes(fuse_read_in{}));
  cut.pop_back();
  EXPECT_EQ(DecodeString(cut, &request).error(), EINVAL);
  EXPECT_EQ(DecodeString("short", &request).error(), EINVAL);
  EXPECT_EQ(request.unique, 0u);
  EXPECT_EQ(DecodeString("", &request).error(), EINVAL);

  const std::string unended = Message(FUSE_LOOKUP, "name");
  EXPECT_EQ(DecodeString(unended, &request).error(), EINVAL);
  EXPECT_EQ(DecodeString(Message(FUSE_LOOKUP, std::string(1, '\0')), &request)
                .error(),
            EINVAL);
}

TEST(Wire, DecodesNamesUpToTheZeroByte) {
  FuseRequest request;
  const std::string name("disk.raw\0junk", 13);
  const std::string message = Message(FUSE_LOOKUP, name);
  ASSERT_TRUE(DecodeString(message, &request).ok());
  EXPECT_EQ(std::string(request.name), "disk.raw");
}

TEST(Wire, TakesTheShorterInitOfOldKernels) {
  FuseRequest request;
  const uint32_t old_init[4] = {7, 31, 65536, FUSE_ASYNC_READ};
  ASSERT_TRUE(DecodeString(Message(FUSE_INIT, Bytes(old_init)), &request).ok());
  EXPECT_EQ(request.args.init.minor, 31u);
  EXPECT_EQ(request.args.init.flags, uint32_t{FUSE_ASYNC_READ});
  EXPECT_EQ(request.args.init.flags2, 0u);
}

TEST(Wire, AnswersUnknownOpcodesWithEnosys) {
  FuseRequest request;
  for (uint32_t opcode : {uint32_t{FUSE_GETXATTR}, uint32_t{FUSE_FLUSH},
                          uint32_t{FUSE_POLL}, kOpStatx, 999u, ~0u}) {
    EXPECT_EQ(DecodeString(Message(opcode, "x"), &request).error(), ENOSYS);
    EXPECT_EQ(request.unique, 77u);
  }
}

// Any bytes give a request whose parts lie inside the message, or an errno.
TEST(Wire, SurvivesGarbage) {
  const uint32_t seed = std::random_device()();
  RecordProperty("seed", static_cast<int>(seed));
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  int decoded = 0;
  for (int round = 0; round < 200000; ++round) {
    std::string message(random() % 200, '\0');
    for (char& c : message) {
      c = static_cast<char>(random() % 3 == 0 ? random() : 0);
    }
    if (message.size() >= sizeof(fuse_in_header) && random() % 8 != 0) {
      const auto length = static_cast<uint32_t>(message.size());
      const uint32_t opcode = random() % 64;
      std::memcpy(message.data(), &length, sizeof(length));
      std::memcpy(message.data() + 4, &opcode, sizeof(opcode));
    }
    // Its own allocation, so that the sanitizers see each byte too many.
    const auto copy = std::make_unique<char[]>(message.size());
    std::memcpy(copy.get(), message.data(), message.size());
    FuseRequest request;
    const auto span = absl::MakeConstSpan(copy.get(), message.size());
    if (!Decode(span, &request).ok()) continue;
    ++decoded;
    for (char c : request.name) ASSERT_NE(c, '\0');
    if (!request.data.empty()) {
      ASSERT_GE(request.data.data(), span.data());
      ASSERT_LE(request.data.data() + request.data.size(),
                span.data() + span.size());
    }
  }
  EXPECT_GT(decoded, 1000);
}

}  // namespace
}  // namespace bgfs::fuse
