// The /dev/fuse transport: the descriptor is polled on the loop and read until
// it is empty, without blocking; a reply is one write(2). That is all the
// system calls a request costs.
//
// A read waits for a free slot, so the kernel, where requests then queue up,
// bounds the memory.
#ifndef BGFS_FUSE_DEV_TRANSPORT_H_
#define BGFS_FUSE_DEV_TRANSPORT_H_

#include <coroutine>
#include <cstdint>
#include <string>

#include "fuse/device.h"
#include "fuse/slots.h"
#include "fuse/transport.h"
#include "graph/async/idle_timer.h"
#include "graph/async/loop.h"
#include "graph/async/sync.h"

namespace bgfs::fuse {

class DevTransport final : public Transport {
 public:
  // `device` is non-blocking. `loop` outlives it.
  // `map`: where the memory for requests comes from.
  DevTransport(Loop* loop, Device device,
               SlotPool::Map map = SlotPool::MapMemory)
      : loop_(loop),
        device_(std::move(device)),
        slots_(this, map),
        idle_(kIdleNs, [this] { slots_.Trim(); }) {}
  // Stop() has returned, or Start() was never called.
  ~DevTransport() override;

  Carries carries() const override {
    return {.max_write_bytes = SlotPool::kPayloadBytes};
  }
  void Start(Handler* handler) override;
  void OnAgreed(const Agreement&) override {}
  Task<void> Settle() override { co_return; }
  absl::string_view name() const override { return kDevName; }
  Task<void> Stop() override;
  Task<IoStatus> Invalidate(uint64_t node_id, bool data) override;
  Task<IoStatus> InvalidateEntry(uint64_t parent_id,
                                 absl::string_view name) override;

 private:
  static constexpr int64_t kIdleNs = 1'000'000'000;

  using Slot = SlotPool::Slot;
  enum class Read : uint8_t { kMore, kEmpty, kNoSlot, kEnded };

  // Waits that Stop() can end early.
  struct PollAwaiter;
  struct TimerAwaiter;

  void Finish(Exchange* exchange, int error, uint32_t bytes) override;
  void Drop(Exchange* exchange) override;

  Task<void> Serve();
  Task<void> WaitForSlot();
  Read ReadOne();
  void Accept(Slot* slot, size_t bytes);
  void Return(Slot* slot);
  Task<IoStatus> Notify(std::string message);

  Loop* const loop_;
  Device device_;
  SlotPool slots_;
  Handler* handler_ = nullptr;
  bool stopping_ = false;
  bool polling_ = false;
  Completion poll_;
  WaitQueue slot_waiters_;  // Serve(), where slots are short
  WaitQueue idle_waiters_;  // Stop(), for the last reply
  InFlight tasks_;          // Serve(), notifications
  IdleTimer idle_;
  bool short_of_memory_ = false;
  Completion memory_timer_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_DEV_TRANSPORT_H_
