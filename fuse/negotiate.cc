#include "fuse/negotiate.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace bgfs::fuse {
namespace {

// ASYNC_DIO decides everything: without it one direct request is in flight.
// Never WRITEBACK_CACHE (it delays errors and hides changes) and never
// ATOMIC_O_TRUNC (O_TRUNC is to arrive as a truncate, which can be refused).
constexpr uint64_t kWanted = uint64_t{FUSE_ASYNC_READ} | FUSE_BIG_WRITES |
                             FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
                             FUSE_MAX_PAGES | FUSE_INIT_EXT |
                             kInitDirectIoAllowMmap;

// Of a request without FUSE_MAX_PAGES.
constexpr uint32_t kDefaultPages = 32;

}  // namespace

IoStatus Negotiate(const fuse_init_in& in, const KernelMask& mask,
                   const Carries& carries, fuse_init_out* out,
                   Agreement* agreement) {
  *out = {};
  *agreement = {};
  out->major = FUSE_KERNEL_VERSION;
  out->minor = FUSE_KERNEL_MINOR_VERSION;
  if (in.major > FUSE_KERNEL_VERSION) return IoStatus();
  const uint32_t minor = std::min(in.minor, mask.max_minor);
  if (in.major < FUSE_KERNEL_VERSION || minor < kOldestMinor) {
    return IoError(EPROTO);
  }
  uint64_t offered = in.flags & ~mask.init_flags;
  if ((offered & FUSE_INIT_EXT) != 0) {
    offered |= (uint64_t{in.flags2} << 32) & ~mask.init_flags;
  }
  const uint64_t flags = offered & (kWanted | carries.init_flags);

  agreement->minor = minor;
  agreement->init_flags = flags;
  agreement->direct_open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH;
  if (minor >= kMinorParallelDirectWrites) {
    agreement->direct_open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
  }

  out->max_readahead = in.max_readahead;
  out->flags = static_cast<uint32_t>(flags);
  out->flags2 = static_cast<uint32_t>(flags >> 32);
  if (agreement->Has(kInitPassthrough)) SetStackDepth(kMaxStackDepth, out);
  out->max_background = agreement->Has(kInitOverIoUring)
                            ? carries.ring_background
                            : carries.max_background;
  out->congestion_threshold = out->max_background * 3 / 4;
  out->time_gran = 1;
  const auto page_bytes = static_cast<uint32_t>(getpagesize());
  out->max_write =
      agreement->Has(FUSE_MAX_PAGES)
          ? carries.max_write_bytes
          : std::min(carries.max_write_bytes, kDefaultPages * page_bytes);
  out->max_pages = static_cast<uint16_t>(out->max_write / page_bytes);
  return IoStatus();
}

}  // namespace bgfs::fuse
