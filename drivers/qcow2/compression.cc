#include "drivers/qcow2/compression.h"

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include <cstddef>
#include <memory>
#include <new>

namespace bgfs::qcow2 {
namespace {

// A frame may ask for a window larger than any cluster; memory for it is
// bounded by this (8 MiB, what zstd's levels up to 19 use).
constexpr int kZstdMaxWindowLog = 23;

struct FreeDeflate {
  void operator()(libdeflate_decompressor* decoder) const {
    libdeflate_free_decompressor(decoder);
  }
};

struct FreeZstd {
  void operator()(ZSTD_DCtx* decoder) const { ZSTD_freeDCtx(decoder); }
};

// libdeflate insists on a stream that ends with the cluster. A stream that
// goes on, or that was never ended, is as good: the format stops at a
// cluster's worth of output. zlib can stop there.
bool InflateUntilFull(absl::Span<const uint8_t> input,
                      absl::Span<uint8_t> cluster) {
  z_stream stream = {};
  // Raw deflate, without zlib's header.
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
  // zlib does not write to its input; its old interface does not say so.
  stream.next_in = const_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = cluster.data();
  stream.avail_out = static_cast<uInt>(cluster.size());
  inflate(&stream, Z_SYNC_FLUSH);
  const bool full = stream.avail_out == 0;
  inflateEnd(&stream);
  return full;
}

bool Inflate(absl::Span<const uint8_t> input, absl::Span<uint8_t> cluster) {
  thread_local std::unique_ptr<libdeflate_decompressor, FreeDeflate> decoder(
      libdeflate_alloc_decompressor());
  if (decoder == nullptr) throw std::bad_alloc();
  return libdeflate_deflate_decompress(
             decoder.get(), input.data(), input.size(), cluster.data(),
             cluster.size(), nullptr) == LIBDEFLATE_SUCCESS ||
         InflateUntilFull(input, cluster);
}

std::unique_ptr<ZSTD_DCtx, FreeZstd> NewZstdDecoder() {
  std::unique_ptr<ZSTD_DCtx, FreeZstd> decoder(ZSTD_createDCtx());
  if (decoder == nullptr) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(decoder.get(), ZSTD_d_windowLogMax, kZstdMaxWindowLog);
  return decoder;
}

// The cluster may be spread over several frames.
bool UnpackZstd(absl::Span<const uint8_t> input, absl::Span<uint8_t> cluster) {
  thread_local std::unique_ptr<ZSTD_DCtx, FreeZstd> decoder = NewZstdDecoder();
  ZSTD_DCtx_reset(decoder.get(), ZSTD_reset_session_only);
  ZSTD_inBuffer in = {input.data(), input.size(), 0};
  ZSTD_outBuffer out = {cluster.data(), cluster.size(), 0};
  while (out.pos < out.size) {
    const size_t in_before = in.pos;
    const size_t out_before = out.pos;
    const size_t rest = ZSTD_decompressStream(decoder.get(), &out, &in);
    if (ZSTD_isError(rest) != 0) return false;
    if (in.pos == in_before && out.pos == out_before) return false;
  }
  return true;
}

}  // namespace

bool Decompress(CompressionType type, absl::Span<const uint8_t> input,
                absl::Span<uint8_t> cluster) {
  return type == CompressionType::kZstd ? UnpackZstd(input, cluster)
                                        : Inflate(input, cluster);
}

}  // namespace bgfs::qcow2
