// The FUSE kernel interface: <linux/fuse.h> as the distribution has it (7.38 on
// Debian 12), and the few newer definitions that bgfs uses.
//
// Source of what is added: include/uapi/linux/fuse.h of Linux 6.18 (protocol
// 7.44). The constants are our own names, so that a newer system header, which
// has them as macros and enumerators, never clashes.
#ifndef BGFS_FUSE_ABI_H_
#define BGFS_FUSE_ABI_H_

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bgfs::fuse {

// INIT flags above bit 31; they travel in flags2 (shifted down by 32) and count
// only where FUSE_INIT_EXT is set in flags.
inline constexpr uint64_t kInitDirectIoAllowMmap = uint64_t{1} << 36;  // 6.6
inline constexpr uint64_t kInitPassthrough = uint64_t{1} << 37;        // 6.9
inline constexpr uint64_t kInitHasResend = uint64_t{1} << 39;          // 6.9
inline constexpr uint64_t kInitOverIoUring = uint64_t{1} << 41;        // 6.14

// Protocol minors that matter here. FOPEN_PARALLEL_DIRECT_WRITES has no INIT
// flag: the kernel has it from 7.38 (6.2) on and ignores it before.
inline constexpr uint32_t kMinorParallelDirectWrites = 38;

// Opcodes.
inline constexpr uint32_t kOpStatx = 52;  // 7.39
inline constexpr uint32_t kOpCopyFileRange64 =
    53;  // 7.45, fuse_copy_file_range_in

// The answer to kOpCopyFileRange64; opcode 47 answers with fuse_write_out,
// whose 32 bits cannot hold a large count.
struct CopyFileRangeOut {
  uint64_t bytes_copied;
};

// --- Passthrough (7.40, Linux 6.9) ---
//
// The kernel is told of a file by kBackingOpen on the /dev/fuse descriptor, and
// gives it a number. What is opened with kOpenPassthrough and that number
// reads, writes and maps the file.

inline constexpr uint32_t kOpenPassthrough = uint32_t{1} << 7;

// fuse_open_out, whose last member has got a meaning.
struct OpenOut {
  uint64_t handle;
  uint32_t open_flags;
  int32_t backing_id;
};
static_assert(sizeof(OpenOut) == sizeof(fuse_open_out));

struct BackingMap {
  int32_t fd;
  uint32_t flags;    // 0
  uint64_t padding;  // 0
};

// Gives the number, which is not 0.
inline constexpr uint64_t kBackingOpen =
    _IOW(FUSE_DEV_IOC_MAGIC, 1, BackingMap);

// On how many file systems the file may stand, its own and ours included; the
// member is called max_stack_depth. The kernel's limit is 2: an image on
// overlayfs.
inline constexpr uint32_t kMaxStackDepth = 2;

inline void SetStackDepth(uint32_t depth, fuse_init_out* out) {
  constexpr size_t kAt =
      offsetof(fuse_init_out, flags2) + sizeof(fuse_init_out::flags2);
  std::memcpy(reinterpret_cast<char*>(out) + kAt, &depth, sizeof(depth));
}

// --- Over io_uring (7.42, Linux 6.14) ---
//
// For each possible CPU there is a queue of entries, each with memory for one
// request and its reply: RingHeader and a payload of max_write bytes. An entry
// is handed to the kernel by an IORING_OP_URING_CMD on the /dev/fuse
// descriptor, with RingCommand in the second half of a 128-byte submission
// entry; its completion says that a request stands there, or why there are no
// more (a negative errno).

struct RingEntry {
  uint64_t flags;
  uint64_t commit_id;  // of the request; the reply names it
  uint32_t payload_bytes;
  uint32_t padding;
  uint64_t reserved;
};

struct RingHeader {
  char in_out[128];  // fuse_in_header, then fuse_out_header
  char arguments[128];
  RingEntry entry;
};

inline constexpr uint32_t kRingRegister = 1;        // a new entry
inline constexpr uint32_t kRingCommitAndFetch = 2;  // a reply

struct RingCommand {
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue;  // the number of its CPU
  uint8_t padding[6];
};

// Set in `unique` of a request that FUSE_NOTIFY_RESEND made the kernel send
// again; the reply echoes it.
inline constexpr uint64_t kUniqueResend = uint64_t{1} << 63;

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_ABI_H_
