#include "tests/fuzz/fuse_client.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "graph/async/check.h"
#include "gtest/gtest.h"

namespace bgfs::fuse {
namespace {

constexpr size_t kUniqueAt = offsetof(fuse_in_header, unique);
// Larger than any reply that fits into the socket.
constexpr size_t kMessageBytes = 1 << 20;
constexpr int kMaxErrno = 4095;

// The answer's bytes for an opcode; -1: any number, -2: never answered so.
int64_t AnswerBytes(uint32_t opcode) {
  switch (opcode) {
    case FUSE_INIT:
      return sizeof(fuse_init_out);
    case FUSE_LOOKUP:
      return sizeof(fuse_entry_out);
    case FUSE_GETATTR:
    case FUSE_SETATTR:
      return sizeof(fuse_attr_out);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      return sizeof(fuse_open_out);
    case FUSE_WRITE:
    case FUSE_COPY_FILE_RANGE:
      return sizeof(fuse_write_out);
    case kOpCopyFileRange64:
      return sizeof(CopyFileRangeOut);
    case FUSE_LSEEK:
      return sizeof(fuse_lseek_out);
    case FUSE_STATFS:
      return sizeof(fuse_statfs_out);
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FALLOCATE:
    case FUSE_DESTROY:
      return 0;
    case FUSE_READ:
    case FUSE_READDIR:
      return -1;
    default:
      return -2;
  }
}

// Entries lie one behind the other, each with a name, up to the end.
void CheckEntries(absl::string_view answer) {
  while (!answer.empty()) {
    fuse_dirent entry;
    ASSERT_GE(answer.size(), FUSE_NAME_OFFSET);
    std::memcpy(&entry, answer.data(), FUSE_NAME_OFFSET);
    const size_t bytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
    ASSERT_GT(entry.namelen, 0u);
    ASSERT_LE(bytes, answer.size());
    answer.remove_prefix(bytes);
  }
}

}  // namespace

fuse_in_header FuseClient::Call::header() const {
  fuse_in_header header = {};
  Copy(message, &header, sizeof(header));
  return header;
}

void FuseClient::Call::Copy(absl::string_view from, void* to, size_t bytes) {
  std::memcpy(to, from.data(), std::min(bytes, from.size()));
}

FuseClient::Ends FuseClient::Connect() {
  int fds[2];
  BGFS_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC,
                        0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

FuseClient::FuseClient() : FuseClient(Connect()) {}

FuseClient::FuseClient(Ends ends)
    : socket_(std::move(ends.socket)),
      device_(std::move(ends.device)),
      device_number_(device_.get()) {}

const FuseClient::Call* FuseClient::Send(std::string message) {
  uint64_t unique = 0;
  if (message.size() >= sizeof(fuse_in_header)) {
    std::memcpy(&unique, &message[kUniqueAt], sizeof(unique));
    if (unique != 0) unique = next_unique_++ | (unique & kUniqueResend);
    std::memcpy(&message[kUniqueAt], &unique, sizeof(unique));
  }
  if (send(socket_.get(), message.data(), message.size(), 0) < 0) {
    BGFS_CHECK(errno == EAGAIN);
    return nullptr;
  }
  Call& call = calls_[unique];
  call = Call();
  call.message = std::move(message);
  return &call;
}

void FuseClient::Receive() {
  static std::vector<char> buffer(kMessageBytes);
  for (;;) {
    const ssize_t bytes = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (bytes <= 0) return;
    OnMessage({buffer.data(), static_cast<size_t>(bytes)});
  }
}

void FuseClient::OnMessage(absl::string_view message) {
  fuse_out_header header;
  ASSERT_GE(message.size(), sizeof(header));
  std::memcpy(&header, message.data(), sizeof(header));
  EXPECT_EQ(header.len, message.size());
  if (header.unique == 0 && header.error > 0) {
    EXPECT_LT(header.error, FUSE_NOTIFY_CODE_MAX);
    return;
  }
  EXPECT_LE(header.error, 0);
  EXPECT_GE(header.error, -kMaxErrno);
  const auto found = calls_.find(header.unique);
  ASSERT_NE(found, calls_.end()) << "unique " << header.unique;
  Call& call = found->second;
  // Of those without a unique only the last one is known, and it need not be
  // the one that is answered.
  const bool known = header.unique != 0;
  if (known) EXPECT_FALSE(call.answered) << "opcode " << call.opcode();
  call.answered = true;
  call.error = -header.error;
  call.answer = std::string(message.substr(sizeof(header)));
  if (known) CheckAnswer(call);
}

void FuseClient::CheckAnswer(const Call& call) {
  const auto bytes = static_cast<int64_t>(call.answer.size());
  if (call.error != 0) {
    EXPECT_EQ(bytes, 0);
    return;
  }
  const int64_t expected = AnswerBytes(call.opcode());
  EXPECT_NE(expected, -2) << "opcode " << call.opcode();
  if (expected >= 0) EXPECT_EQ(bytes, expected) << "opcode " << call.opcode();
  if (expected == -1) EXPECT_LE(bytes, call.Arguments<fuse_read_in>().size);
  if (call.opcode() == FUSE_READDIR) CheckEntries(call.answer);
}

bool FuseClient::ExpectsReply(const Call& call) {
  if (call.message.size() < sizeof(fuse_in_header)) return false;
  return call.opcode() != FUSE_FORGET && call.opcode() != FUSE_BATCH_FORGET;
}

bool FuseClient::AllAnswered() const {
  return std::all_of(calls_.begin(), calls_.end(), [](const auto& item) {
    return item.first == 0 || item.second.answered ||
           !ExpectsReply(item.second);
  });
}

}  // namespace bgfs::fuse
