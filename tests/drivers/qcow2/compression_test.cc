#include "drivers/qcow2/compression.h"

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace bgfs::qcow2 {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Sample(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes out(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    out[i] = random() % 4 == 0 ? static_cast<uint8_t>(random()) : 'a' + i % 7;
  }
  return out;
}

// As QEMU does it: raw deflate with a 12-bit window. `flush` is Z_FINISH for a
// stream that is ended, Z_SYNC_FLUSH for one that is not.
Bytes Deflate(const Bytes& in, int flush = Z_FINISH) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY),
            Z_OK);
  Bytes out(in.size() * 2 + 100);
  stream.next_in = const_cast<Bytef*>(in.data());
  stream.avail_in = in.size();
  stream.next_out = out.data();
  stream.avail_out = out.size();
  deflate(&stream, flush);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

Bytes Zstd(const Bytes& in) {
  Bytes out(ZSTD_compressBound(in.size()));
  out.resize(ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 3));
  return out;
}

Bytes Compress(CompressionType type, const Bytes& in) {
  return type == CompressionType::kZstd ? Zstd(in) : Deflate(in);
}

class Both : public testing::TestWithParam<CompressionType> {};
INSTANTIATE_TEST_SUITE_P(Types, Both,
                         testing::Values(CompressionType::kDeflate,
                                         CompressionType::kZstd));

TEST_P(Both, GivesBackAClusterWhateverFollows) {
  for (int bits = 9; bits <= 21; ++bits) {
    const Bytes cluster = Sample(size_t{1} << bits, bits);
    Bytes input = Compress(GetParam(), cluster);
    Bytes out(cluster.size());
    EXPECT_TRUE(Decompress(GetParam(), input, absl::MakeSpan(out)));
    EXPECT_EQ(out, cluster);
    const Bytes garbage = Sample(511, 99);
    input.insert(input.end(), garbage.begin(), garbage.end());
    out.assign(cluster.size(), 0);
    EXPECT_TRUE(Decompress(GetParam(), input, absl::MakeSpan(out)));
    EXPECT_EQ(out, cluster);
  }
}

TEST_P(Both, LessThanAClusterIsDamage) {
  const Bytes input = Compress(GetParam(), Sample(4095, 1));
  Bytes out(4096);
  EXPECT_FALSE(Decompress(GetParam(), input, absl::MakeSpan(out)));
  EXPECT_FALSE(Decompress(GetParam(), {}, absl::MakeSpan(out)));
}

TEST_P(Both, StopsWhenTheClusterIsFull) {
  const Bytes data = Sample(10000, 1);
  const Bytes input = Compress(GetParam(), data);
  Bytes out(4096);
  EXPECT_TRUE(Decompress(GetParam(), input, absl::MakeSpan(out)));
  EXPECT_EQ(out, Bytes(data.begin(), data.begin() + 4096));
}

TEST_P(Both, CutShortIsDamage) {
  const Bytes cluster = Sample(65536, 5);
  const Bytes input = Compress(GetParam(), cluster);
  Bytes out(cluster.size());
  for (size_t cut = 16; cut < input.size(); cut += 997) {
    EXPECT_FALSE(Decompress(GetParam(),
                            absl::MakeSpan(input).first(input.size() - cut),
                            absl::MakeSpan(out)));
  }
}

TEST_P(Both, GarbledInputNeverWritesPastTheCluster) {
  std::mt19937_64 random(3);
  const Bytes cluster = Sample(4096, 5);
  const Bytes good = Compress(GetParam(), cluster);
  int damaged = 0;
  for (int i = 0; i < 3000; ++i) {
    Bytes input = good;
    input[random() % input.size()] ^= 1 + random() % 255;
    Bytes out(4096 + 64, 0xee);
    damaged +=
        Decompress(GetParam(), input, absl::MakeSpan(out).first(4096)) ? 0 : 1;
    ASSERT_EQ(Bytes(out.begin() + 4096, out.end()), Bytes(64, 0xee));
  }
  EXPECT_GT(damaged, 100);
  // And the decoder is none the worse for it.
  Bytes out(4096);
  EXPECT_TRUE(Decompress(GetParam(), good, absl::MakeSpan(out)));
  EXPECT_EQ(out, cluster);
}

TEST(Deflate, AStreamThatWasNeverEndedIsEnough) {
  const Bytes cluster = Sample(65536, 8);
  const Bytes input = Deflate(cluster, Z_SYNC_FLUSH);
  Bytes out(cluster.size());
  EXPECT_TRUE(
      Decompress(CompressionType::kDeflate, input, absl::MakeSpan(out)));
  EXPECT_EQ(out, cluster);
}

TEST(Zstd, SeveralFramesMakeACluster) {
  const Bytes cluster = Sample(65536, 9);
  Bytes input = Zstd(Bytes(cluster.begin(), cluster.begin() + 1000));
  const Bytes rest = Zstd(Bytes(cluster.begin() + 1000, cluster.end()));
  input.insert(input.end(), rest.begin(), rest.end());
  Bytes out(cluster.size());
  EXPECT_TRUE(Decompress(CompressionType::kZstd, input, absl::MakeSpan(out)));
  EXPECT_EQ(out, cluster);
}

}  // namespace
}  // namespace bgfs::qcow2
