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

// As a ring brings a message of `arguments` bytes before the rest: with garbage
// behind each of them.
IoStatus DecodeApart(const std::string& message, size_t arguments,
                     std::string* payload, FuseRequest* request) {
  RingHeader header;
  std::memset(&header, '?', sizeof(header));
  std::memcpy(header.in_out, message.data(), sizeof(fuse_in_header));
  message.copy(header.arguments, arguments, sizeof(fuse_in_header));
  *payload = message.substr(sizeof(fuse_in_header) + arguments);
  header.entry.payload_bytes = static_cast<uint32_t>(payload->size());
  *payload += "????";
  return Decode(header, absl::MakeConstSpan(payload->data(), payload->size()),
                request);
}

TEST(Wire, DecodesPartsThatStandApart) {
  std::string rest;
  FuseRequest request;
  fuse_write_in write = {};
  write.offset = 4096;
  write.size = 3;
  ASSERT_TRUE(DecodeApart(Message(FUSE_WRITE, Bytes(write) + "abc"),
                          sizeof(write), &rest, &request)
                  .ok());
  EXPECT_EQ(request.unique, 77u);
  EXPECT_EQ(request.args.write.offset, 4096u);
  EXPECT_EQ(request.data.data(), rest.data());
  EXPECT_EQ(request.data.size(), 3u);
  ASSERT_TRUE(DecodeApart(Message(FUSE_LOOKUP, std::string("name\0", 5)), 0,
                          &rest, &request)
                  .ok());
  EXPECT_EQ(request.name, "name");
}

// The length in the header says how many of the arguments there are.
TEST(Wire, RefusesPartsThatDoNotFit) {
  std::string rest;
  FuseRequest request;
  fuse_write_in write = {};
  write.size = 4;
  const std::string body = Bytes(write) + "abc";
  EXPECT_EQ(
      DecodeApart(Message(FUSE_WRITE, body), sizeof(write), &rest, &request)
          .error(),
      EINVAL);
  EXPECT_EQ(request.unique, 77u);
  EXPECT_EQ(DecodeApart(Message(FUSE_READ, ""), 0, &rest, &request).error(),
            EINVAL);
  for (const int change : {-200, -30, 200}) {
    std::string message = Message(FUSE_GETATTR, Bytes(fuse_getattr_in()));
    fuse_in_header header;
    std::memcpy(&header, message.data(), sizeof(header));
    header.len += static_cast<uint32_t>(change);
    std::memcpy(message.data(), &header, sizeof(header));
    EXPECT_EQ(
        DecodeApart(message, sizeof(fuse_getattr_in), &rest, &request).error(),
        EINVAL)
        << change;
  }
}

TEST(Wire, RefusesMoreThanThePayloadHolds) {
  const std::string message = Message(FUSE_STATFS, std::string(8, 'a'));
  RingHeader header = {};
  std::memcpy(header.in_out, message.data(), sizeof(fuse_in_header));
  header.entry.payload_bytes = 8;
  const std::string payload(8, 'a');
  FuseRequest request;
  EXPECT_TRUE(
      Decode(header, absl::MakeConstSpan(payload.data(), 8), &request).ok());
  EXPECT_EQ(
      Decode(header, absl::MakeConstSpan(payload.data(), 7), &request).error(),
      EINVAL);
  EXPECT_EQ(request.unique, 77u);
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
