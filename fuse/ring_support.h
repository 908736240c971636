// Whether FUSE over io_uring is to be had on this machine, and what is missing
// where it is not. The one place that decides: a mount takes the ring, or
// refuses to go without, by what `bgfs doctor` says.
//
// The kernel has the last word, at INIT; what can be asked before is here.
#ifndef BGFS_FUSE_RING_SUPPORT_H_
#define BGFS_FUSE_RING_SUPPORT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace bgfs::fuse {

// Something that is not there, and what to do about it: together one line.
struct Lack {
  std::string what;
  std::string advice;
};

struct RingSupport {
  // The fuse module's parameter enable_uring; missing before Linux 6.14.
  enum class Switch : uint8_t { kMissing, kOff, kOn };

  Switch enable_uring = Switch::kMissing;
  bool module = false;       // fuse is loaded, not built into the kernel
  bool fusectl = false;      // mounted: how a connection is closed
  size_t possible_cpus = 0;  // each has a queue; 0: the kernel does not say
  size_t memory_bytes = 0;   // address space for the entries
  bool memory = false;       // and whether it can be had
};

RingSupport ProbeRing();

// Empty: a mount made here is carried over io_uring if INIT agrees. Pure.
std::vector<Lack> RingLacks(const RingSupport& support);

// The first of what is missing now, as an error for whoever insists.
absl::Status RequireRing();

// The same error where it turned out later.
absl::Status RingRefused(const Lack& lack);

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_RING_SUPPORT_H_
