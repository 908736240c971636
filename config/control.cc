#include "config/control.h"

#include <dirent.h>
#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/optional.h"

namespace bgfs::config {
namespace {

constexpr auto kStatusLimit = std::chrono::seconds(3);
// How often it is asked whether somebody still follows.
constexpr auto kGivenUpEvery = std::chrono::milliseconds(200);
// Stats of ten thousand exports.
constexpr int kMaxReplyBytes = 256 << 20;
// What a server and a few of its clients need, generously.
constexpr int kDescriptors = 16;
constexpr char kSystemFolder[] = "/run/bgfs";

// The libraries' own logs would break our one line for each error.
void SilenceLibraries() {
  gpr_set_log_function([](gpr_log_func_args* /*args*/) {});
  google::protobuf::SetLogHandler(nullptr);
}

// Where this user's daemons listen.
std::string OwnFolder() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') {
    return absl::StrCat(runtime, "/bgfs");
  }
  return kSystemFolder;
}

// A folder that nobody else can put a socket into.
absl::Status MakePrivateFolder(const std::string& path) {
  const std::string advice = "; set XDG_RUNTIME_DIR to a folder of yours";
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(
        absl::StrCat("cannot make the control folder \"", path,
                     "\": ", std::strerror(errno), advice));
  }
  struct stat st = {};
  if (lstat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) ||
      st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("control folder \"", path,
                     "\" is not a folder of yours with mode 0700", advice));
  }
  return absl::OkStatus();
}

// A name that no other daemon has, in whatever pid namespace it runs.
std::string SocketName() {
  std::random_device random;
  return absl::StrFormat("%d-%08x.sock", getpid(), random());
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return address;
}

// Between bind(2) and listen(2) a socket looks as a dead one does.
bool IsOld(const std::string& path) {
  struct stat st = {};
  return lstat(path.c_str(), &st) == 0 && st.st_mtime + 60 < time(nullptr);
}

// The owner of `path` if that is a `type` (S_IFDIR, S_IFSOCK) and no link to
// one: in a folder of somebody else's, names may lead anywhere.
absl::optional<uid_t> OwnerOf(const std::string& path, mode_t type) {
  struct stat st = {};
  if (lstat(path.c_str(), &st) != 0 || (st.st_mode & S_IFMT) != type) {
    return absl::nullopt;
  }
  return st.st_uid;
}

// Whether somebody listens; a socket that its daemon left behind is removed.
bool IsAlive(const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path)) return false;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  const sockaddr_un address = AddressOf(path);
  const int result =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = result == 0 ? 0 : errno;
  close(fd);
  if (error == ECONNREFUSED && IsOld(path) &&
      OwnerOf(path, S_IFSOCK) == geteuid()) {
    unlink(path.c_str());
  }
  // EAGAIN: its queue of connections is full.
  return error == 0 || error == EAGAIN;
}

std::vector<std::string> SocketsIn(const std::string& folder) {
  std::vector<std::string> sockets;
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return sockets;
  while (const dirent* entry = readdir(dir)) {
    if (absl::EndsWith(entry->d_name, ".sock")) {
      sockets.push_back(absl::StrCat(folder, "/", entry->d_name));
    }
  }
  closedir(dir);
  std::sort(sockets.begin(), sockets.end());
  return sockets;
}

std::unique_ptr<control::Control::Stub> Connect(const std::string& socket) {
  SilenceLibraries();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReplyBytes);
  return control::Control::NewStub(
      grpc::CreateCustomChannel(absl::StrCat("unix:", socket),
                                grpc::InsecureChannelCredentials(), arguments));
}

std::string NameOf(const RunningDaemon& daemon) {
  return absl::StrCat("the daemon (pid ", daemon.status.pid(), ")");
}

absl::Status OtherVersion(const RunningDaemon& daemon, absl::string_view verb) {
  return absl::UnimplementedError(
      absl::StrCat(NameOf(daemon), " is of another version of bgfs: ", verb,
                   " it with that one's"));
}

absl::Status ToStatus(const RunningDaemon& daemon, const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return OtherVersion(daemon, "ask");
  }
  return absl::UnavailableError(absl::StrCat(
      NameOf(daemon), " does not answer any more: ", status.error_message()));
}

}  // namespace

absl::Status CheckDescriptors() {
  int opened[kDescriptors];
  int count = 0;
  while (count < kDescriptors) {
    opened[count] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (opened[count] < 0) break;
    ++count;
  }
  const int error = errno;
  for (int i = 0; i < count; ++i) close(opened[i]);
  if (count == kDescriptors) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot open the files that the control service needs: ",
                   std::strerror(error), "; allow more with: ulimit -n"));
}

class ControlServer::Service final : public control::Control::Service {
 public:
  explicit Service(ControlHandler* handler) : handler_(handler) {}

  grpc::Status Status(grpc::ServerContext* /*context*/,
                      const control::StatusRequest* /*request*/,
                      control::StatusReply* reply) override {
    *reply = handler_->Status();
    return grpc::Status::OK;
  }

  grpc::Status Stats(grpc::ServerContext* /*context*/,
                     const control::StatsRequest* /*request*/,
                     control::StatsReply* reply) override {
    *reply = handler_->Stats();
    return grpc::Status::OK;
  }

  grpc::Status Events(grpc::ServerContext* context,
                      const control::EventsRequest* /*request*/,
                      grpc::ServerWriter<control::Event>* writer) override {
    const auto follower = handler_->FollowEvents();
    while (!follower->ended() && !context->IsCancelled()) {
      const std::optional<control::Event> event =
          follower->WaitUntil(Deadline::clock::now() + kGivenUpEvery);
      if (event.has_value() && !writer->Write(*event)) break;
    }
    return grpc::Status::OK;
  }

  grpc::Status SetWriteThreshold(
      grpc::ServerContext* /*context*/,
      const control::SetWriteThresholdRequest* request,
      control::SetWriteThresholdReply* /*reply*/) override {
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    const absl::Status status = handler_->SetWriteThreshold(
        request->node(),
        static_cast<int64_t>(std::min(request->bytes(), kMost)));
    // Both number their codes alike.
    return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                        std::string(status.message()));
  }

  grpc::Status Shutdown(grpc::ServerContext* /*context*/,
                        const control::ShutdownRequest* request,
                        control::ShutdownReply* reply) override {
    *reply = handler_->Shutdown(request->force());
    return grpc::Status::OK;
  }

  grpc::Status Apply(grpc::ServerContext* /*context*/,
                     const control::ApplyRequest* request,
                     control::ApplyReply* reply) override {
    *reply = handler_->Apply(*request);
    return grpc::Status::OK;
  }

  grpc::Status Config(grpc::ServerContext* /*context*/,
                      const control::ConfigRequest* /*request*/,
                      control::ConfigReply* reply) override {
    *reply = handler_->Config();
    return grpc::Status::OK;
  }

  grpc::Status Graph(grpc::ServerContext* /*context*/,
                     const control::GraphRequest* /*request*/,
                     control::GraphReply* reply) override {
    *reply = handler_->Graph();
    return grpc::Status::OK;
  }

  grpc::Status Resize(grpc::ServerContext* /*context*/,
                      const control::ResizeRequest* request,
                      control::ResizeReply* reply) override {
    *reply = handler_->Resize(*request);
    return grpc::Status::OK;
  }

  grpc::Status Follow(
      grpc::ServerContext* context, const control::FollowRequest* /*request*/,
      grpc::ServerWriter<control::FollowReply>* writer) override {
    control::FollowReply reply;
    writer->Write(reply);
    std::optional<control::ShutdownReply> outcome =
        handler_->WaitEnd([context] { return context->IsCancelled(); });
    if (outcome.has_value()) {
      *reply.mutable_outcome() = *std::move(outcome);
      writer->Write(reply);
    }
    return grpc::Status::OK;
  }

 private:
  ControlHandler* const handler_;
};

absl::Status MakeControlFolder() { return MakePrivateFolder(OwnFolder()); }

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(
    ControlHandler* handler) {
  SilenceLibraries();
  if (absl::Status s = CheckDescriptors(); !s.ok()) return s;
  if (absl::Status s = MakeControlFolder(); !s.ok()) return s;
  std::unique_ptr<ControlServer> control(new ControlServer);
  control->path_ = absl::StrCat(OwnFolder(), "/", SocketName());
  if (control->path_.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("control socket \"", control->path_,
                     "\": the name is too long; set XDG_RUNTIME_DIR to a "
                     "shorter one"));
  }
  control->service_ = std::make_unique<Service>(handler);
  // Any language can drive it with nothing but the socket.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("unix:", control->path_),
                           grpc::InsecureServerCredentials());
  builder.RegisterService(control->service_.get());
  const mode_t mask = umask(0177);
  control->server_ = builder.BuildAndStart();
  umask(mask);
  if (control->server_ == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on the control socket \"", control->path_, "\""));
  }
  return control;
}

ControlServer::~ControlServer() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + kStatusLimit);
  server_->Wait();
  unlink(path_.c_str());
}

std::vector<std::string> ControlFolders() {
  std::vector<std::string> folders = {OwnFolder()};
  const auto add = [&folders](std::string folder) {
    if (std::find(folders.begin(), folders.end(), folder) == folders.end()) {
      folders.push_back(std::move(folder));
    }
  };
  add(kSystemFolder);
  if (geteuid() != 0) {
    add(absl::StrCat("/run/user/", geteuid(), "/bgfs"));
    return folders;
  }
  if (DIR* dir = opendir("/run/user"); dir != nullptr) {
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] != '.') {
        add(absl::StrCat("/run/user/", entry->d_name, "/bgfs"));
      }
    }
    closedir(dir);
  }
  return folders;
}

void VisitDaemons(absl::FunctionRef<bool(const RunningDaemon&)> visit) {
  for (const std::string& folder : ControlFolders()) {
    const absl::optional<uid_t> owner = OwnerOf(folder, S_IFDIR);
    if (!owner.has_value()) continue;
    for (const std::string& socket : SocketsIn(folder)) {
      if (OwnerOf(socket, S_IFSOCK) != owner || !IsAlive(socket)) continue;
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kStatusLimit);
      RunningDaemon daemon{socket, *owner, {}};
      if (!Connect(socket)->Status(&context, {}, &daemon.status).ok()) continue;
      if (!visit(daemon)) return;
    }
  }
}

absl::StatusOr<control::ApplyReply> RequestApply(
    const RunningDaemon& daemon, const control::ApplyRequest& request) {
  grpc::ClientContext context;
  control::ApplyReply reply;
  const grpc::Status status =
      Connect(daemon.socket)->Apply(&context, request, &reply);
  if (!status.ok()) return ToStatus(daemon, status);
  return reply;
}

absl::StatusOr<control::ConfigReply> RequestConfig(
    const RunningDaemon& daemon) {
  grpc::ClientContext context;
  control::ConfigReply reply;
  const grpc::Status status =
      Connect(daemon.socket)->Config(&context, {}, &reply);
  if (!status.ok()) return ToStatus(daemon, status);
  return reply;
}

absl::StatusOr<control::ResizeReply> RequestResize(
    const RunningDaemon& daemon, const control::ResizeRequest& request) {
  grpc::ClientContext context;
  control::ResizeReply reply;
  const grpc::Status status =
      Connect(daemon.socket)->Resize(&context, request, &reply);
  if (!status.ok()) return ToStatus(daemon, status);
  return reply;
}

absl::StatusOr<control::GraphReply> RequestGraph(const RunningDaemon& daemon) {
  grpc::ClientContext context;
  control::GraphReply reply;
  const grpc::Status status =
      Connect(daemon.socket)->Graph(&context, {}, &reply);
  if (!status.ok()) return ToStatus(daemon, status);
  return reply;
}

absl::StatusOr<control::StatsReply> RequestStats(const RunningDaemon& daemon) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kStatusLimit);
  control::StatsReply reply;
  const grpc::Status status =
      Connect(daemon.socket)->Stats(&context, {}, &reply);
  if (!status.ok()) return ToStatus(daemon, status);
  return reply;
}

EventReader::EventReader(const RunningDaemon& daemon)
    : daemon_(daemon),
      stub_(Connect(daemon.socket)),
      reader_(stub_->Events(&context_, {})) {}

std::optional<control::Event> EventReader::Next() {
  control::Event event;
  if (!reader_->Read(&event)) return std::nullopt;
  return event;
}

absl::Status EventReader::Finish() {
  return ToStatus(daemon_, reader_->Finish());
}

absl::StatusOr<control::ShutdownReply> RequestShutdown(
    const RunningDaemon& daemon, bool force) {
  const std::unique_ptr<control::Control::Stub> stub = Connect(daemon.socket);
  grpc::ClientContext following;
  const auto follower = stub->Follow(&following, {});
  control::FollowReply news;
  if (!follower->Read(&news)) {
    const grpc::Status refused = follower->Finish();
    if (refused.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      return OtherVersion(daemon, "end");
    }
    return absl::NotFoundError(
        absl::StrCat(NameOf(daemon),
                     " does not answer any more: ", refused.error_message()));
  }
  grpc::ClientContext context;
  control::ShutdownRequest request;
  request.set_force(force);
  control::ShutdownReply reply;
  const grpc::Status status = stub->Shutdown(&context, request, &reply);
  if (status.ok()) {
    following.TryCancel();
    return reply;
  }
  // Somebody else was faster: the daemon had stopped listening.
  if (follower->Read(&news) && news.has_outcome()) return news.outcome();
  return absl::UnavailableError(absl::StrCat(
      "the daemon (pid ", daemon.status.pid(), ") ended without an answer: ",
      status.error_message(), "; what was not synced may be lost"));
}

}  // namespace bgfs::config
