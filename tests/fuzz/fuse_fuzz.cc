// Any bytes as FUSE requests to an export, through the transport, the decoder,
// the file tree and the engine to a disk of zeros, and back.
//
//   0  1  the export: bits below
//   1  1  the size of the disk
//   2     requests, each: flags (1), length of what follows (2), bytes
//
// A request is a message as it stands, or (kCompact) an opcode, a node id and
// what follows the header, so that a fuzzer needs no luck to say something that
// makes sense. Sizes and lengths are folded, so that a disk in memory stays
// small, and answers so that they fit into the socket.
//
// An export that answers one request before it gets the next (kSerial) is
// compared with a model; the others serve several at once. fuse_client.h says
// what holds for every reply.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "fuse/fuse_export.h"
#include "fuse/slots.h"
#include "google/protobuf/text_format.h"
#include "graph/backend.h"
#include "graph/graph.h"
#include "tests/fuzz/fuse_client.h"
#include "tests/fuzz/fuse_model.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/sim/sim_world.h"

namespace bgfs::fuse {
namespace {

// Of an export.
constexpr uint8_t kWritable = 1 << 0;
constexpr uint8_t kResizable = 1 << 1;
constexpr uint8_t kInFolder = 1 << 2;
constexpr uint8_t kSerial = 1 << 3;
// Not in memory, but in a file, whose operations take their time.
constexpr uint8_t kInFile = 1 << 4;
constexpr uint8_t kOldKernel = 1 << 5;

// Of a request.
constexpr uint8_t kRightLength = 1 << 0;
constexpr uint8_t kCompact = 1 << 1;
constexpr uint8_t kWait = 1 << 2;
constexpr uint8_t kSilent = 1 << 3;  // nobody is to be answered

constexpr int64_t kSizes[] = {0, 1, 511, 4096, 5000, 200000, 262144, 1 << 20};
constexpr uint64_t kFoldedBytes = uint64_t{4} << 20;
constexpr uint64_t kHuge = uint64_t{1} << 62;  // stands as it is: an error
constexpr uint32_t kAnswerBytes = 8192;
constexpr int kMaxRequests = 64;
constexpr int64_t kMaxSteps = 2000000;

// The field at `at` of a message, if it is there.
template <typename T, typename Change>
void ChangeField(size_t at, Change change, std::string* message) {
  if (message->size() < at + sizeof(T)) return;
  T value;
  std::memcpy(&value, &(*message)[at], sizeof(T));
  value = change(value);
  std::memcpy(&(*message)[at], &value, sizeof(T));
}

uint64_t FoldOffset(uint64_t offset) {
  return offset < kHuge ? offset % kFoldedBytes : offset;
}
uint64_t FoldLength(uint64_t bytes) {
  return static_cast<int64_t>(bytes) < 0 ? bytes : bytes % kFoldedBytes;
}
// More than a payload holds is an error.
uint32_t FoldAnswer(uint32_t bytes) {
  return bytes > SlotPool::kPayloadBytes ? bytes : bytes % (kAnswerBytes + 1);
}

void Fold(std::string* message) {
  constexpr size_t kArguments = sizeof(fuse_in_header);
  const auto offset = [&](size_t at) {
    ChangeField<uint64_t>(kArguments + at, FoldOffset, message);
  };
  const auto length = [&](size_t at) {
    ChangeField<uint64_t>(kArguments + at, FoldLength, message);
  };
  uint32_t opcode = 0;
  ChangeField<uint32_t>(
      offsetof(fuse_in_header, opcode),
      [&](uint32_t value) { return opcode = value; }, message);
  switch (opcode) {
    case FUSE_READ:
    case FUSE_READDIR:
      ChangeField<uint32_t>(kArguments + offsetof(fuse_read_in, size),
                            FoldAnswer, message);
      break;
    case FUSE_WRITE:
      offset(offsetof(fuse_write_in, offset));
      break;
    case FUSE_SETATTR:
      offset(offsetof(fuse_setattr_in, size));
      break;
    case FUSE_FALLOCATE:
      length(offsetof(fuse_fallocate_in, offset));
      length(offsetof(fuse_fallocate_in, length));
      break;
    case FUSE_COPY_FILE_RANGE:
    case kOpCopyFileRange64:
      offset(offsetof(fuse_copy_file_range_in, off_out));
      length(offsetof(fuse_copy_file_range_in, len));
      break;
    default:
      break;
  }
}

std::string NextMessage(FuzzInput* input, uint8_t flags) {
  const auto length = input->Take<uint16_t>();
  const absl::string_view raw = input->TakeBytes(length);
  std::string message(raw);
  if ((flags & kCompact) != 0) {
    const absl::string_view body = raw.size() > 2 ? raw.substr(2) : "";
    fuse_in_header header = {};
    header.unique = 1;
    header.opcode = raw.empty() ? 0 : static_cast<uint8_t>(raw[0]);
    header.nodeid = raw.size() < 2 ? 0 : static_cast<uint8_t>(raw[1]) % 4;
    message =
        absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&header),
                                       sizeof(header)),
                     body);
    if (header.opcode == FUSE_WRITE && body.size() > sizeof(fuse_write_in)) {
      ChangeField<uint32_t>(
          sizeof(header) + offsetof(fuse_write_in, size),
          [&](uint32_t) { return body.size() - sizeof(fuse_write_in); },
          &message);
    }
  }
  if ((flags & (kRightLength | kCompact)) != 0) {
    ChangeField<uint32_t>(
        0, [&](uint32_t) { return message.size(); }, &message);
  }
  ChangeField<uint64_t>(
      offsetof(fuse_in_header, unique),
      [&](uint64_t unique) {
        return (flags & kSilent) != 0 ? 0 : std::max<uint64_t>(unique, 1);
      },
      &message);
  Fold(&message);
  return message;
}

// An export in a world of its own, and its client.
class Fuzzed {
 public:
  Fuzzed(uint8_t options, int64_t size)
      : options_(options),
        world_(0, SimRandom(1)),
        graph_(&world_.loop()),
        model_(kRootId + (Is(kInFolder) ? 1 : 0), size) {
    world_.LimitSteps(kMaxSteps);
    if (Is(kInFile)) world_.disk().CreateSparse("disk.img", size);
    world_.Run(Open(size));
  }
  ~Fuzzed() { world_.Run(Close()); }
  Fuzzed(const Fuzzed&) = delete;
  Fuzzed& operator=(const Fuzzed&) = delete;

  void Send(std::string message, bool wait) {
    const FuseClient::Call* call = client_.Send(message);
    if (call == nullptr) {  // the socket is full
      Settle();
      call = client_.Send(std::move(message));
      if (call == nullptr) return;  // it is longer than the socket
    }
    if (!wait && !Is(kSerial)) return;
    Settle();
    if (Is(kSerial)) {
      if (call->answered && call->error == 0) model_.OnAnswer(*call);
      EXPECT_EQ(model_.size(), export_->backend().size())
          << "opcode " << call->opcode();
    }
    client_.Forget();
  }

  // Until all is quiet: then everybody has been answered.
  void Settle() {
    world_.loop().MakeReadable(client_.device_number());
    world_.RunUntilIdle();
    client_.Receive();
    EXPECT_TRUE(client_.AllAnswered());
  }

 private:
  bool Is(uint8_t option) const { return (options_ & option) != 0; }

  Task<void> Open(int64_t size) {
    proto::Node spec;
    const std::string text = absl::StrCat(
        "node_name: \"disk\" discard: UNMAP read_only: ",
        Is(kWritable) ? "false" : "true",
        Is(kInFile) ? " file { filename: \"disk.img\" }"
                    : absl::StrCat(" memory { size: \"", size, "\" }"));
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
    const auto node = co_await OpenNode(graph_, spec, OpenContext());
    EXPECT_TRUE(node.ok()) << node.status();
    Permissions used = kConsistentRead;
    if (Is(kWritable)) used |= kWrite;
    if (Is(kWritable) && Is(kResizable)) used |= kResize;
    auto backend =
        Backend::Create("export fuzzed", *node, {used, kAllPermissions});
    EXPECT_TRUE(backend.ok()) << backend.status();
    FuseExportOptions options;
    if (Is(kInFolder)) options.file_name = "disk.raw";
    if (Is(kOldKernel)) options.kernel_mask.max_minor = kOldestMinor;
    export_ = std::make_unique<FuseExport>("fuzzed", *std::move(backend),
                                           std::move(options));
    EXPECT_TRUE(export_->Serve(Device(client_.TakeDevice()), [] {}).ok());
  }

  Task<void> Close() {
    export_->RequestShutdown();
    EXPECT_TRUE((co_await export_->WaitClosed()).ok());
    export_.reset();
    EXPECT_TRUE((co_await graph_.Close()).ok());
  }

  const uint8_t options_;
  FuseClient client_;
  SimWorld world_;
  Graph graph_;
  FuseModel model_;
  std::unique_ptr<FuseExport> export_;
};

void Run(FuzzInput input) {
  const auto options = input.Take<uint8_t>();
  Fuzzed fuzzed(options, kSizes[input.Take<uint8_t>() % std::size(kSizes)]);
  for (int i = 0; i < kMaxRequests && !input.empty(); ++i) {
    const auto flags = input.Take<uint8_t>();
    fuzzed.Send(NextMessage(&input, flags), (flags & kWait) != 0);
    // So that their answers fit into the socket all the same.
    if (i % 16 == 15) fuzzed.Settle();
  }
  fuzzed.Settle();
}

}  // namespace
}  // namespace bgfs::fuse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bgfs::fuse::Run(bgfs::FuzzInput(data, size));
  bgfs::AbortIfFailed();
  return 0;
}
