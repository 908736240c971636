#include "fuse/uring_transport.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fuse/ring_support.h"
#include "graph/async/check.h"

namespace bgfs::fuse {
namespace {

constexpr int64_t kIdleNs = 1'000'000'000;
constexpr char kPossibleCpus[] = "/sys/devices/system/cpu/possible";

}  // namespace

struct UringTransport::Entry : Exchange {
  RingHeader header;
  uint16_t queue = 0;
  bool at_kernel = false;
  std::optional<InFlight::Holder> accepted;
  size_t kept_bytes = 0;  // of the payload, touched and not given back
  iovec memory[2];        // what the kernel is told when it is registered
  Completion completion;
};

// Waits until the kernel is done with the entry.
struct UringTransport::EntryAwaiter {
  Entry* entry;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    entry->completion.waiter = waiter;
  }
  int64_t await_resume() noexcept {
    entry->at_kernel = false;
    return entry->completion.result;
  }
};

size_t UringTransport::PossibleCpus() {
  std::ifstream file(kPossibleCpus);
  std::string text;
  if (!std::getline(file, text)) return 0;
  size_t cpus = 0;
  for (const absl::string_view range : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(range, absl::MaxSplits('-', 1));
    size_t first = 0;
    size_t last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) return 0;
    if (ends.second.empty()) {
      last = first;
    } else if (!absl::SimpleAtoi(ends.second, &last) || last < first) {
      return 0;
    }
    cpus += last - first + 1;
  }
  return cpus;
}

size_t UringTransport::MemoryBytes(size_t queues) {
  return queues * kEntriesPerQueue * kPayloadBytes;
}

absl::StatusOr<std::unique_ptr<UringTransport>> UringTransport::Create(
    UringLoop* loop, Device device, const Options& options) {
  if (options.queues == 0 || options.queues > UINT16_MAX) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make ", options.queues, " queues of FUSE over io_uring"));
  }
  const size_t bytes = MemoryBytes(options.queues);
  void* memory = options.map(bytes);
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot carry requests over io_uring: no memory for ", options.queues,
        " queues (", bytes >> 20, " MiB); or leave out --transport=io_uring"));
  }
  UniqueFd abort = device.OpenAbort();
  if (!abort.valid()) {
    munmap(memory, bytes);
    return RingRefused(
        {"the connection's \"abort\" in fusectl cannot be opened",
         "see that /sys/fs/fuse/connections is mounted and open to this user"});
  }
  // A huge page would make a small request pay for 2 MiB.
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  return std::unique_ptr<UringTransport>(new UringTransport(
      loop, std::move(device), std::move(abort), options, memory));
}

UringTransport::UringTransport(UringLoop* loop, Device device, UniqueFd abort,
                               const Options& options, void* memory)
    : loop_(loop),
      device_(device),
      abort_(std::move(abort)),
      dev_(loop, std::move(device)),
      queues_(options.queues),
      memory_(memory),
      entries_(std::make_unique<Entry[]>(queues_ * kEntriesPerQueue)),
      idle_(kIdleNs, [this] { Trim(); }) {
  for (size_t i = 0; i < queues_ * kEntriesPerQueue; ++i) {
    Entry& entry = entries_[i];
    entry.transport = this;
    entry.payload = static_cast<char*>(memory_) + i * kPayloadBytes;
    entry.capacity = kPayloadBytes;
    entry.queue = static_cast<uint16_t>(i / kEntriesPerQueue);
    entry.memory[0] = {&entry.header, sizeof(entry.header)};
    entry.memory[1] = {entry.payload, entry.queue + size_t{1} == queues_
                                          ? options.last_queue_bytes
                                          : kPayloadBytes};
  }
}

UringTransport::~UringTransport() {
  BGFS_CHECK(tasks_.count() == 0);
  munmap(memory_, MemoryBytes(queues_));
}

Carries UringTransport::carries() const {
  Carries carries = dev_.carries();
  carries.init_flags |= kInitOverIoUring;
  carries.ring_background = kMaxBackground;
  return carries;
}

void UringTransport::Start(Handler* handler) {
  handler_ = handler;
  dev_.Start(handler);
}

// Until every queue has an entry, and for ever where one was refused, requests
// come by /dev/fuse.
void UringTransport::OnAgreed(const Agreement& agreement) {
  if (!agreement.Has(kInitOverIoUring)) return;
  ring_ = true;
  for (size_t i = 0; i < queues_ * kEntriesPerQueue; ++i) {
    Spawn(Serve(&entries_[i]));
  }
}

// A refusal stands in the completion queue once the entries are submitted, and
// the loop looks there at the end of its turn.
Task<void> UringTransport::Settle() {
  loop_->SubmitNow();
  co_await loop_->Yield();
  co_await loop_->Yield();
}

// What was accepted is answered; what the kernel hands over after that is not.
// The kernel gives entries back only when the connection ends, and they hold
// the device open: so it is aborted. Where it has ended already that does
// nothing.
Task<void> UringTransport::Stop() {
  stopping_ = true;
  co_await accepted_.WaitIdle();
  loop_->SubmitNow();
  if (tasks_.count() > 0 && write(abort_.get(), "1", 1) < 0) errno = 0;
  co_await tasks_.WaitIdle();
  co_await idle_.Stop();
  co_await dev_.Stop();
}

Task<void> UringTransport::Serve(Entry* entry) {
  const InFlight::Holder hold = tasks_.Hold();
  Submit(entry, kRingRegister, 0);
  while (co_await EntryAwaiter{entry} >= 0 && !stopping_) Accept(entry);
  ring_ = false;
}

void UringTransport::Submit(Entry* entry, uint32_t command,
                            uint64_t commit_id) {
  io_uring_sqe* sqe = loop_->NewSqe(&entry->completion);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = device_.get();
  sqe->cmd_op = command;
  if (command == kRingRegister) {
    sqe->addr = reinterpret_cast<uint64_t>(entry->memory);
    sqe->len = 2;
  }
  RingCommand arguments = {};
  arguments.commit_id = commit_id;
  arguments.queue = entry->queue;
  std::memcpy(sqe->cmd, &arguments, sizeof(arguments));
  entry->at_kernel = true;
}

void UringTransport::Accept(Entry* entry) {
  entry->accepted.emplace(accepted_.Hold());
  entry->touched = std::min(entry->header.entry.payload_bytes, kPayloadBytes);
  const IoStatus decoded =
      Decode(entry->header, absl::MakeConstSpan(entry->payload, kPayloadBytes),
             &entry->request);
  if (decoded.ok()) {
    handler_->OnRequest(entry);
  } else {
    entry->ReplyError(decoded.error());
  }
}

void UringTransport::Finish(Exchange* exchange, int error, uint32_t bytes) {
  idle_.Touch();
  auto* entry = static_cast<Entry*>(exchange);
  entry->touched = std::max(entry->touched, bytes);
  if (entry->touched > entry->kept_bytes) {
    kept_bytes_ += entry->touched - entry->kept_bytes;
    entry->kept_bytes = entry->touched;
  }
  RingHeader& header = entry->header;
  const fuse_out_header out = {
      .len = static_cast<uint32_t>(sizeof(out)) + bytes,
      .error = -error,
      .unique = entry->request.unique,
  };
  std::memcpy(header.in_out, &out, sizeof(out));
  header.entry.payload_bytes = bytes;
  Submit(entry, kRingCommitAndFetch, header.entry.commit_id);
  entry->accepted.reset();
  if (kept_bytes_ > SlotPool::MaxKeptBytes()) {
    loop_->SubmitNow();
    GiveBack(entry);
  }
}

// Every request of a ring has an answer.
void UringTransport::Drop(Exchange* exchange) { Finish(exchange, 0, 0); }

// A reply has left once it is submitted. The kernel fills an entry only inside
// our own system calls and then completes it: one that is with the kernel and
// has not completed holds nothing.
void UringTransport::GiveBack(Entry* entry) {
  if (!entry->at_kernel || entry->kept_bytes == 0 ||
      loop_->MayHaveCompleted(&entry->completion)) {
    return;
  }
  madvise(entry->payload, entry->kept_bytes, MADV_DONTNEED);
  kept_bytes_ -= std::exchange(entry->kept_bytes, 0);
}

void UringTransport::Trim() {
  loop_->SubmitNow();
  for (size_t i = 0; i < queues_ * kEntriesPerQueue; ++i) {
    GiveBack(&entries_[i]);
  }
}

}  // namespace bgfs::fuse
