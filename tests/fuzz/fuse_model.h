// What the file of an export holds, as its client knows it from requests that
// were answered one after the other; and whether each answer fits.

#ifndef BGFS_TESTS_FUZZ_FUSE_MODEL_H_
#define BGFS_TESTS_FUZZ_FUSE_MODEL_H_

#include <cstdint>

#include "tests/fuzz/fuse_client.h"
#include "tests/sim/sim_image.h"

namespace bgfs::fuse {

class FuseModel {
 public:
  // A file of zeros. `node_id`: requests to others do not concern it.
  FuseModel(uint64_t node_id, int64_t size) : node_id_(node_id) {
    Apply(SimChange::Kind::kResize, 0, size);
  }

  int64_t size() const { return image_.size(); }
  // A request that was answered without an error; the next one was not yet
  // sent.
  void OnAnswer(const FuseClient::Call& call);

 private:
  void OnRead(const FuseClient::Call& call);
  void OnWrite(const FuseClient::Call& call);
  void OnAllocate(const FuseClient::Call& call);
  void OnCopy(const FuseClient::Call& call);
  void OnSeek(const FuseClient::Call& call);
  void OnAttributes(const FuseClient::Call& call);

  void Apply(SimChange::Kind kind, int64_t offset, int64_t bytes);
  void Put(int64_t offset, std::string data);
  bool IsZero(int64_t offset, int64_t bytes) const;

  const uint64_t node_id_;
  SimImage image_;
};

}  // namespace bgfs::fuse

#endif  // BGFS_TESTS_FUZZ_FUSE_MODEL_H_
