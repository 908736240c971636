#include "drivers/throttle.h"

namespace bgfs {

Task<IoStatus> ThrottleDriver::Read(Request& request, int64_t offset,
                                    IoView data) {
  return Throttle(ThrottleDirection::kRead, data.size(),
                  FilterDriver::Read(request, offset, data));
}

Task<IoStatus> ThrottleDriver::Write(Request& request, int64_t offset,
                                     IoView data) {
  return Throttle(ThrottleDirection::kWrite, data.size(),
                  FilterDriver::Write(request, offset, data));
}

Task<IoStatus> ThrottleDriver::Zero(Request& request, int64_t offset,
                                    int64_t bytes, RequestFlags flags) {
  return Throttle(ThrottleDirection::kWrite, bytes,
                  FilterDriver::Zero(request, offset, bytes, flags));
}

Task<IoStatus> ThrottleDriver::Discard(Request& request, int64_t offset,
                                       int64_t bytes) {
  return Throttle(ThrottleDirection::kWrite, bytes,
                  FilterDriver::Discard(request, offset, bytes));
}

// Not a coroutine: what need not wait takes no frame for it.
Task<IoStatus> ThrottleDriver::Throttle(ThrottleDirection direction,
                                        int64_t bytes, Task<IoStatus> then) {
  if (member_.TryPass(direction, bytes)) return then;
  return WaitFor(direction, bytes, std::move(then));
}

Task<IoStatus> ThrottleDriver::WaitFor(ThrottleDirection direction,
                                       int64_t bytes, Task<IoStatus> then) {
  co_await member_.Wait(direction, bytes);
  co_return co_await std::move(then);
}

}  // namespace bgfs
