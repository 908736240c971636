// Work of one request side by side, within bounds.
//
//   Slots     so many places; who wants one more waits in line
//   Pieces    starts tasks, each with a place of a Slots, and waits for all

#ifndef BGFS_DRIVERS_QCOW2_SLOTS_H_
#define BGFS_DRIVERS_QCOW2_SLOTS_H_

#include <cstdint>
#include <utility>

#include "graph/async/io_status.h"
#include "graph/async/sync.h"
#include "graph/async/task.h"

namespace bgfs::qcow2 {

// Fair: a place that is given back goes to the first who waits.
class Slots {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(Slots* slots) : slots_(slots) {}
    Guard(Guard&& other) noexcept
        : slots_(std::exchange(other.slots_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (slots_ != nullptr) slots_->Give();
    }

   private:
    Slots* slots_;
  };

  explicit Slots(int64_t count) : free_(count) {}

  // auto place = co_await slots.Take();
  Task<Guard> Take() {
    if (free_ > 0) {
      --free_;
    } else {
      co_await waiters_.Wait();  // the place comes with the wake-up
    }
    co_return Guard(this);
  }

 private:
  void Give() {
    if (!waiters_.WakeOne()) ++free_;
  }

  int64_t free_;
  WaitQueue waiters_;
};

// Lives in the frame of the request; Join() must have returned before it goes.
class Pieces {
 public:
  explicit Pieces(int64_t at_once) : slots_(at_once) {}

  // Starts `piece`, once there is a place for it.
  Task<void> Add(Task<IoStatus> piece) {
    Slots::Guard place = co_await slots_.Take();
    Spawn(Run(this, std::move(piece), std::move(place), running_.Hold()));
  }
  bool failed() const { return !status_.ok(); }

  // Waits for all; the first failure.
  Task<IoStatus> Join() {
    co_await running_.WaitIdle();
    co_return status_;
  }

 private:
  static Task<void> Run(Pieces* self, Task<IoStatus> piece, Slots::Guard place,
                        InFlight::Holder running) {
    const IoStatus status = co_await std::move(piece);
    if (self->status_.ok()) self->status_ = status;
  }

  Slots slots_;
  InFlight running_;
  IoStatus status_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_SLOTS_H_
