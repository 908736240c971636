#include "fuse/dev_transport.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/async/check.h"

namespace bgfs::fuse {
namespace {

// Requests taken in before the loop turns, so that what they started reaches
// the kernel and what has completed is answered.
constexpr int kBatch = 32;

// When to ask for memory again that was not to be had.
constexpr int64_t kMemoryRetryNs = 50'000'000;

template <typename T>
std::string NotifyMessage(fuse_notify_code code, const T& body,
                          absl::string_view tail) {
  fuse_out_header header = {};
  header.len = static_cast<uint32_t>(sizeof(header) + sizeof(T) + tail.size());
  header.error = code;
  std::string message(reinterpret_cast<const char*>(&header), sizeof(header));
  message.append(reinterpret_cast<const char*>(&body), sizeof(T));
  message.append(tail.data(), tail.size());
  return message;
}

}  // namespace

struct DevTransport::PollAwaiter {
  DevTransport* transport;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    transport->polling_ = true;
    transport->poll_.waiter = waiter;
    transport->loop_->StartPoll(transport->device_.get(), &transport->poll_);
  }
  void await_resume() noexcept { transport->polling_ = false; }
};

struct DevTransport::TimerAwaiter {
  Loop* loop;
  Completion* timer;
  int64_t wait_ns;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    timer->waiter = waiter;
    loop->StartTimer(loop->NowNs() + wait_ns, timer);
  }
  void await_resume() noexcept {}
};

DevTransport::~DevTransport() { BGFS_CHECK(tasks_.count() == 0); }

void DevTransport::Start(Handler* handler) {
  handler_ = handler;
  Spawn(Serve());
}

Task<void> DevTransport::Stop() {
  stopping_ = true;
  if (polling_) loop_->CancelPoll(&poll_);
  if (short_of_memory_) loop_->CancelTimer(&memory_timer_);
  slot_waiters_.WakeAll();
  while (slots_.in_use() > 0) co_await idle_waiters_.Wait();
  co_await tasks_.WaitIdle();
  co_await idle_.Stop();
  device_.Close();
}

Task<void> DevTransport::Serve() {
  const InFlight::Holder hold = tasks_.Hold();
  int budget = kBatch;
  while (!stopping_) {
    switch (ReadOne()) {
      case Read::kMore:
        if (--budget > 0) break;
        budget = kBatch;
        co_await loop_->Yield();
        break;
      case Read::kEmpty:
        budget = kBatch;
        co_await PollAwaiter{this};
        break;
      case Read::kNoSlot:
        co_await WaitForSlot();
        break;
      case Read::kEnded:
        handler_->OnEnd();
        co_return;
    }
  }
}

Task<void> DevTransport::WaitForSlot() {
  if (slots_.in_use() > 0) {
    co_await slot_waiters_.Wait();
    co_return;
  }
  // Memory is short already for the first: no reply will wake us.
  short_of_memory_ = true;
  co_await TimerAwaiter{loop_, &memory_timer_, kMemoryRetryNs};
  short_of_memory_ = false;
}

DevTransport::Read DevTransport::ReadOne() {
  Slot* slot = slots_.Take();
  if (slot == nullptr) return Read::kNoSlot;
  const ssize_t bytes =
      read(device_.get(), slot->message(), SlotPool::kMessageBytes);
  if (bytes >= 0) {
    Accept(slot, static_cast<size_t>(bytes));
    return Read::kMore;
  }
  const int error = errno;
  Return(slot);
  switch (error) {
    case EINTR:
    case ENOENT:  // the request was given up while it was read
      return Read::kMore;
    case EAGAIN:
    case ENOMEM:
      return Read::kEmpty;
    default:  // ENODEV: unmounted; ECONNABORTED
      return Read::kEnded;
  }
}

void DevTransport::Accept(Slot* slot, size_t bytes) {
  idle_.Touch();
  if (bytes > SlotPool::kHeaderBytes) {
    slot->touched = static_cast<uint32_t>(bytes - SlotPool::kHeaderBytes);
  }
  const IoStatus decoded =
      Decode(absl::MakeConstSpan(slot->message(), bytes), &slot->request);
  if (decoded.ok()) {
    handler_->OnRequest(slot);
  } else if (slot->request.unique != 0) {
    slot->ReplyError(decoded.error());
  } else {
    slot->NoReply();
  }
}

void DevTransport::Finish(Exchange* exchange, int error, uint32_t bytes) {
  auto* slot = static_cast<Slot*>(exchange);
  slot->touched = std::max(slot->touched, bytes);
  fuse_out_header* header = slot->reply_header();
  header->len = static_cast<uint32_t>(sizeof(*header)) + bytes;
  header->error = -error;
  header->unique = slot->request.unique;
  const ssize_t written = write(device_.get(), header, header->len);
  // ENOENT and ENODEV: whoever asked is gone. Anything else must not leave a
  // client waiting for ever.
  if (written < 0 && errno != ENOENT && errno != ENODEV) {
    header->len = sizeof(*header);
    header->error = -EIO;
    if (write(device_.get(), header, header->len) < 0) errno = 0;
  }
  Return(slot);
}

void DevTransport::Drop(Exchange* exchange) {
  Return(static_cast<Slot*>(exchange));
}

void DevTransport::Return(Slot* slot) {
  slots_.Return(slot);
  slot_waiters_.WakeOne();
  if (stopping_ && slots_.in_use() == 0) idle_waiters_.WakeAll();
}

Task<IoStatus> DevTransport::Notify(std::string message) {
  const InFlight::Holder hold = tasks_.Hold();
  if (stopping_) co_return IoError(ENODEV);
  int error = 0;
  const int fd = device_.get();
  co_await loop_->Run(Loop::Offload::kBlocking, [fd, &message, &error] {
    if (write(fd, message.data(), message.size()) < 0) error = errno;
  });
  co_return IoStatus::Errno(error);
}

Task<IoStatus> DevTransport::Invalidate(uint64_t node_id, bool data) {
  // A negative offset: no cached page is touched. No length: to the end.
  const fuse_notify_inval_inode_out body = {node_id, data ? 0 : -1, 0};
  return Notify(NotifyMessage(FUSE_NOTIFY_INVAL_INODE, body, ""));
}

Task<IoStatus> DevTransport::InvalidateEntry(uint64_t parent_id,
                                             absl::string_view name) {
  const fuse_notify_inval_entry_out body = {
      parent_id, static_cast<uint32_t>(name.size()), 0};
  const std::string tail = absl::StrCat(name, absl::string_view("\0", 1));
  return Notify(NotifyMessage(FUSE_NOTIFY_INVAL_ENTRY, body, tail));
}

}  // namespace bgfs::fuse
