// The kernel's side of a FUSE connection without a kernel: a socket that keeps
// messages apart, in place of /dev/fuse. FuseClient sends any bytes as requests
// to an export that is served by the transport of the daemon, and looks at what
// comes back:
//
//   * exactly one reply to each request that has a `unique`, none to a FORGET;
//     an answer without one is not looked at
//   * its length is that of the message, its error is an errno or nothing
//   * an answer has the size that its opcode asks for
//
// Whether the answers are right is for the caller to say.

#ifndef BGFS_TESTS_FUZZ_FUSE_CLIENT_H_
#define BGFS_TESTS_FUZZ_FUSE_CLIENT_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "fuse/abi.h"
#include "fuse/unique_fd.h"

namespace bgfs::fuse {

class FuseClient {
 public:
  // A request that is on its way, and its reply.
  struct Call {
    std::string message;
    bool answered = false;
    int error = 0;  // a positive errno
    std::string answer;

    uint32_t opcode() const { return header().opcode; }
    fuse_in_header header() const;
    // What follows the header, zeros where it ends too early.
    template <typename T>
    T Arguments() const {
      T arguments = {};
      Copy(absl::string_view(message).substr(sizeof(fuse_in_header)),
           &arguments, sizeof(T));
      return arguments;
    }
    template <typename T>
    T Answer() const {
      T value = {};
      Copy(answer, &value, sizeof(T));
      return value;
    }

   private:
    static void Copy(absl::string_view from, void* to, size_t bytes);
  };

  FuseClient();

  // The other end, non-blocking, for the transport; and its number.
  UniqueFd TakeDevice() { return std::move(device_); }
  int device_number() const { return device_number_; }

  // Sends a message. One that is long enough gets a `unique` of its own, unless
  // it has 0 there: nobody is to be answered then. Null if it did not fit: the
  // socket is full. What was sent stays valid until Forget().
  const Call* Send(std::string message);
  // Takes what has come in.
  void Receive();
  // Every request that expects a reply has it.
  bool AllAnswered() const;
  void Forget() { calls_.clear(); }

 private:
  void OnMessage(absl::string_view message);
  static bool ExpectsReply(const Call& call);
  static void CheckAnswer(const Call& call);

  struct Ends {
    UniqueFd socket;
    UniqueFd device;
  };
  static Ends Connect();
  explicit FuseClient(Ends ends);

  UniqueFd socket_;
  UniqueFd device_;
  const int device_number_;
  uint64_t next_unique_ = 1;
  std::map<uint64_t, Call> calls_;  // by unique
};

}  // namespace bgfs::fuse

#endif  // BGFS_TESTS_FUZZ_FUSE_CLIENT_H_
