// The seam between what a connection says and how it is carried: a transport
// brings requests and takes replies, on one loop, for one mount. What a request
// means is not its business.
//
//   kernel ──▶ Transport ──OnRequest(exchange)──▶ Handler
//   kernel ◀── Transport ◀──Reply(exchange)────── Handler, now or later
//
// An exchange owns its buffer from the request to the reply: a WRITE's data
// lies in it until the write has ended, a READ's data is put there and leaves
// from there. Nothing is ever copied, and no two requests share memory.
//
// Everything runs on the transport's loop.
#ifndef BGFS_FUSE_TRANSPORT_H_
#define BGFS_FUSE_TRANSPORT_H_

#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"
#include "fuse/negotiate.h"
#include "fuse/wire.h"
#include "graph/async/io_status.h"
#include "graph/async/task.h"

namespace bgfs::fuse {

class Transport;

// What carries requests, as it is told.
inline constexpr absl::string_view kDevName = "/dev/fuse";
inline constexpr absl::string_view kUringName = "io_uring";

// One request, and the room for its reply.
struct Exchange {
  FuseRequest request;
  Transport* transport = nullptr;
  // Page aligned. A WRITE's data stands here already.
  char* payload = nullptr;
  uint32_t capacity = 0;  // of payload, bytes
  // How far the payload may have been written to; who uses more of it than a
  // request or a reply says raises this.
  uint32_t touched = 0;

  // Answers with `error`, a positive errno, or with the first `bytes` of
  // payload. The exchange is gone then. Exactly one of the three is called.
  void Reply(uint32_t bytes);
  void ReplyError(int error);
  void NoReply();

  // Puts `value` into the payload, to be answered; gives its size.
  template <typename T>
  uint32_t Put(const T& value) {
    std::memcpy(payload, &value, sizeof(T));
    return sizeof(T);
  }
};

class Transport {
 public:
  class Handler {
   public:
    // A request that was decoded. The exchange is the handler's until it has
    // answered. Must not wait.
    virtual void OnRequest(Exchange* exchange) = 0;
    // The kernel has ended the connection (unmounted, aborted): nothing more
    // comes. Not called after Stop(). Must not wait.
    virtual void OnEnd() = 0;

   protected:
    ~Handler() = default;
  };

  virtual ~Transport() = default;

  // What INIT may agree on.
  virtual Carries carries() const = 0;

  // Begins to bring requests.
  virtual void Start(Handler* handler) = 0;
  // INIT was answered.
  virtual void OnAgreed(const Agreement& agreement) = 0;
  // Returns, after OnAgreed(), once the kernel has taken or refused what was
  // agreed on: name() stays then.
  virtual Task<void> Settle() = 0;
  // What carries most requests now: one of the two above.
  virtual absl::string_view name() const = 0;
  // Brings no more, and returns when every exchange was answered; the device is
  // closed, so that a mount that is still there becomes dead.
  virtual Task<void> Stop() = 0;

  // FUSE_NOTIFY_INVAL_INODE for attributes, FUSE_NOTIFY_INVAL_ENTRY for a name.
  // They run off the loop, since the kernel may take locks that a request we
  // have not yet answered holds. ENOENT: the kernel did not know it.
  // Its attributes, and with `data` also what the kernel has of its bytes.
  virtual Task<IoStatus> Invalidate(uint64_t node_id, bool data) = 0;
  virtual Task<IoStatus> InvalidateEntry(uint64_t parent_id,
                                         absl::string_view name) = 0;

 protected:
  friend struct Exchange;
  virtual void Finish(Exchange* exchange, int error, uint32_t bytes) = 0;
  virtual void Drop(Exchange* exchange) = 0;
};

inline void Exchange::Reply(uint32_t bytes) {
  transport->Finish(this, 0, bytes);
}
inline void Exchange::ReplyError(int error) {
  transport->Finish(this, error, 0);
}
inline void Exchange::NoReply() { transport->Drop(this); }

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_TRANSPORT_H_
