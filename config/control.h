// The control service (proto/control.proto): gRPC over a Unix socket, one for
// each daemon, in $XDG_RUNTIME_DIR/bgfs or /run/bgfs. Folder and socket are
// their owner's alone.
//
// A daemon is found from its mounts: one asks every daemon that answers what it
// shows, and st_dev tells.

#ifndef BGFS_CONFIG_CONTROL_H_
#define BGFS_CONFIG_CONTROL_H_

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/events.h"
#include "proto/control.grpc.pb.h"
#include "proto/control.pb.h"

namespace bgfs::config {

// What the service asks of its daemon. Called on threads of the service, any
// number at once; all may block.
class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  virtual control::StatusReply Status() = 0;
  virtual control::StatsReply Stats() = 0;
  virtual std::shared_ptr<EventHub::Follower> FollowEvents() = 0;
  // NotFound: no such node. Unavailable: it could not be asked in time.
  virtual absl::Status SetWriteThreshold(const std::string& node,
                                         int64_t bytes) = 0;
  virtual control::ShutdownReply Shutdown(bool force) = 0;
  virtual control::ApplyReply Apply(const control::ApplyRequest& request) = 0;
  virtual control::ConfigReply Config() = 0;
  virtual control::GraphReply Graph() = 0;
  virtual control::ResizeReply Resize(
      const control::ResizeRequest& request) = 0;
  // Waits for the end of the daemon: what Shutdown replies then. Null once
  // `given_up` says, now and then, that nobody waits any more.
  virtual std::optional<control::ShutdownReply> WaitEnd(
      absl::FunctionRef<bool()> given_up) = 0;
};

// The libraries below abort where they cannot open a descriptor, so whoever
// uses the service asks first. ResourceExhausted: too few can be had.
absl::Status CheckDescriptors();

// Makes the folder for the sockets of this user's daemons, unless it is there.
// The error says what to do.
absl::Status MakeControlFolder();

class ControlServer {
 public:
  // Makes the folder and the socket, and serves. Changes the process's umask
  // for a moment.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(
      ControlHandler* handler);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  // Sends the replies that the handler has given, and removes the socket.
  ~ControlServer();

 private:
  class Service;

  ControlServer() = default;

  std::string path_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

// A daemon that answered.
struct RunningDaemon {
  std::string socket;
  uid_t owner = 0;  // whose it is; what it says counts for that user's mounts
  control::StatusReply status;
};

// Where daemons are looked for: the folders above, and for root those of all
// users.
std::vector<std::string> ControlFolders();

// Asks one after the other, until `visit` returns false. Sockets that nobody
// listens on any more are removed. Blocks, for a daemon that does not answer
// some seconds.
void VisitDaemons(absl::FunctionRef<bool(const RunningDaemon&)> visit);

// Asks a daemon what it has done. Blocks as VisitDaemons() does. Unavailable:
// it has ended, or does not answer.
absl::StatusOr<control::StatsReply> RequestStats(const RunningDaemon& daemon);

// The events of a daemon, one after the other.
class EventReader {
 public:
  explicit EventReader(const RunningDaemon& daemon);
  // Blocks. Null: the daemon has ended, or Cancel() was called.
  std::optional<control::Event> Next();
  // After that, once: an error if the daemon did not say that it ends.
  absl::Status Finish();
  // From any thread, while this is.
  void Cancel() { context_.TryCancel(); }

 private:
  const RunningDaemon daemon_;
  grpc::ClientContext context_;
  std::unique_ptr<control::Control::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<control::Event>> reader_;
};

// Asks a daemon to end; returns when it has, or has refused. NotFound: it had
// ended by itself, or somebody else has ended it, and it cannot be asked how.
absl::StatusOr<control::ShutdownReply> RequestShutdown(
    const RunningDaemon& daemon, bool force);

// The error is that the daemon could not be asked.
absl::StatusOr<control::ApplyReply> RequestApply(
    const RunningDaemon& daemon, const control::ApplyRequest& request);
absl::StatusOr<control::ConfigReply> RequestConfig(const RunningDaemon& daemon);
absl::StatusOr<control::GraphReply> RequestGraph(const RunningDaemon& daemon);
absl::StatusOr<control::ResizeReply> RequestResize(
    const RunningDaemon& daemon, const control::ResizeRequest& request);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_CONTROL_H_
