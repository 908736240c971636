// Seeded chains of real images, made by qemu-img and qemu-io, with what QEMU
// itself reads from them as the truth. For the driver's tests and for those on
// a mounted file.
//
//   absl::StatusOr<Chain> chain = MakeChain(folder, seed);
//   ... read chain->top somehow, compare with the bytes of chain->expected ...
//
// Seeds 0, 1, 2, ... walk through the cluster sizes (512 to 2 MiB), refcount
// widths (1 to 64) and depths (1, 2, 5, 40); everything else is drawn: version,
// compression, sizes (backing shorter and longer, odd ones, tables apart),
// zero clusters, discards, preallocation, a raw base, an internal snapshot.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_CHAIN_GEN_H_
#define BGFS_TESTS_DRIVERS_QCOW2_CHAIN_GEN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bgfs::qcow2 {

struct Chain {
  std::string top;          // path of the top image, always qcow2
  std::string expected;     // path of `qemu-img convert -O raw`'s output
  int64_t size_bytes = 0;   // of the disk, and of `expected`
  int depth = 0;            // layers, the base included
  std::string description;  // the commands that made it
};

// Makes the chain of `seed` in `folder`, which exists and is the chain's own.
absl::StatusOr<Chain> MakeChain(const std::string& folder, uint64_t seed);

// The depth that MakeChain gives the chain of `seed`.
int DepthOfChain(uint64_t seed);

// Runs a shell command; its output if it exits with 0, else an error with the
// command and what it said.
absl::StatusOr<std::string> RunCommand(const std::string& command);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_CHAIN_GEN_H_
