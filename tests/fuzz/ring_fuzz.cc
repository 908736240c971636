// Any bytes as the entry of a ring, as FUSE over io_uring brings a request: the
// header, the arguments and the payload apart, and how much of the last is used
// (fuse/uring_transport.cc looks at nothing else of it).
//
//   0  1  flags: bits below
//   1  1  how many bytes of arguments there are, where the length is right
//   2     RingHeader; what is missing is zero
//         payload: all of the rest is the room for it
//
// Either nothing is decoded, or what stands in the payload; and the same as of
// the three parts in one message, as /dev/fuse brings it. What fuse_fuzz.cc
// does with that one holds for a ring as well.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "fuse/wire.h"
#include "gtest/gtest.h"
#include "tests/fuzz/fuzz_input.h"

namespace bgfs::fuse {
namespace {

// The length in the header and that of the payload agree with what there is.
constexpr uint8_t kRightLength = 1 << 0;

using Bytes = absl::Span<const char>;

Bytes BytesOf(absl::string_view text) { return {text.data(), text.size()}; }

template <typename T>
absl::string_view RawBytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

RingHeader TakeHeader(FuzzInput* input, uint8_t flags, size_t argument_bytes) {
  auto header = input->Take<RingHeader>();
  if ((flags & kRightLength) == 0) return header;
  const size_t payload_bytes = input->rest().size();
  header.entry.payload_bytes = static_cast<uint32_t>(payload_bytes);
  const auto length = static_cast<uint32_t>(sizeof(fuse_in_header) +
                                            argument_bytes + payload_bytes);
  std::memcpy(header.in_out, &length, sizeof(length));
  return header;
}

void ExpectInside(absl::string_view part, Bytes payload) {
  if (part.empty()) return;
  EXPECT_GE(part.data(), payload.data());
  EXPECT_LE(part.data() + part.size(), payload.data() + payload.size());
}

void ExpectSame(const FuseRequest& ring, const FuseRequest& device) {
  EXPECT_EQ(ring.opcode, device.opcode);
  EXPECT_EQ(ring.unique, device.unique);
  EXPECT_EQ(ring.node_id, device.node_id);
  EXPECT_EQ(ring.pid, device.pid);
  EXPECT_EQ(ring.uid, device.uid);
  EXPECT_EQ(ring.gid, device.gid);
  EXPECT_EQ(RawBytes(ring.args), RawBytes(device.args));
  EXPECT_EQ(ring.name, device.name);
  EXPECT_EQ(ring.data, device.data);
}

// Whether the parts mean the same where nothing tells one from the next.
bool IsPlain(uint32_t opcode, size_t argument_bytes, Bytes payload) {
  if (opcode == FUSE_WRITE) return argument_bytes == sizeof(fuse_write_in);
  if (opcode == FUSE_LOOKUP) return argument_bytes == 0;
  return payload.empty();
}

void Run(FuzzInput input) {
  const auto flags = input.Take<uint8_t>();
  const auto argument_bytes = input.Take<uint8_t>();
  const RingHeader header = TakeHeader(&input, flags, argument_bytes);
  // In memory of its own, so that the sanitizers see each byte too many.
  const std::string room(input.rest());
  const Bytes payload = BytesOf(room);

  FuseRequest request;
  const IoStatus decoded = Decode(header, payload, &request);
  ExpectInside(request.name, payload);
  ExpectInside({request.data.data(), request.data.size()}, payload);
  const size_t used = header.entry.payload_bytes;
  fuse_in_header in;
  std::memcpy(&in, header.in_out, sizeof(in));
  const size_t fixed = sizeof(in) + used;
  if (used > room.size() || in.len < fixed ||
      in.len - fixed > sizeof(header.arguments)) {
    EXPECT_EQ(decoded.error(), EINVAL);
    return;
  }
  const size_t arguments = in.len - fixed;
  if (!IsPlain(in.opcode, arguments, payload.first(used))) return;
  const std::string message =
      absl::StrCat(RawBytes(in), absl::string_view(header.arguments, arguments),
                   absl::string_view(room).substr(0, used));
  FuseRequest whole;
  const IoStatus expected = Decode(BytesOf(message), &whole);
  ASSERT_EQ(decoded.ok(), expected.ok());
  if (!decoded.ok()) EXPECT_EQ(decoded.error(), expected.error());
  ExpectSame(request, whole);
}

}  // namespace
}  // namespace bgfs::fuse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bgfs::fuse::Run(bgfs::FuzzInput(data, size));
  bgfs::AbortIfFailed();
  return 0;
}
