// bgfs_set_threshold SOCKET NODE BYTES: sets a write threshold at a daemon, for
// which the command has no verb. Prints what the daemon says, and exits with
// the code of the call's status.

#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "proto/control.grpc.pb.h"

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  const auto stub = bgfs::control::Control::NewStub(grpc::CreateChannel(
      "unix:" + std::string(argv[1]), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  bgfs::control::SetWriteThresholdRequest request;
  request.set_node(argv[2]);
  request.set_bytes(std::strtoull(argv[3], nullptr, 10));
  bgfs::control::SetWriteThresholdReply reply;
  const grpc::Status status =
      stub->SetWriteThreshold(&context, request, &reply);
  std::cout << status.error_message();
  return status.error_code();
}
