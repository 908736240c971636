// The driver on images written entry by entry: what QEMU's tools do not make.

#include "drivers/qcow2/qcow2.h"

#include <libdeflate.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "drivers/create.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/crafted_image.h"
#include "tests/drivers/qcow2/file_bytes.h"
#include "tests/drivers/qcow2/open_chain.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs::qcow2 {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kCluster = 65536;

using Bytes = std::vector<uint8_t>;

Bytes Pattern(size_t bytes, uint8_t seed) {
  Bytes out(bytes);
  for (size_t i = 0; i < bytes; ++i) out[i] = seed + i / 512 + i % 251;
  return out;
}

Bytes Deflate(const Bytes& in) {
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
  Bytes out(libdeflate_deflate_compress_bound(compressor, in.size()));
  out.resize(libdeflate_deflate_compress(compressor, in.data(), in.size(),
                                         out.data(), out.size()));
  libdeflate_free_compressor(compressor);
  return out;
}

// The L2 entry of `bytes` compressed bytes at `offset`, 64 KiB clusters.
uint64_t CompressedEntry(uint64_t offset, uint64_t bytes) {
  const uint64_t sectors = (offset + bytes - 1) / 512 - offset / 512;
  return kEntryCompressed | (sectors << 54) | offset;
}

class Qcow2Test : public testing::Test {
 protected:
  void Open(int64_t l2_cache_bytes = int64_t{32} << 20) {
    image_.Write(folder_ / "image");
    auto opened = OpenChain::Open(folder_ / "image", l2_cache_bytes);
    ASSERT_TRUE(opened.ok()) << opened.status();
    chain_ = *std::move(opened);
  }
  std::string OpenError() {
    image_.Write(folder_ / "image");
    auto opened = OpenChain::Open(folder_ / "image");
    return opened.ok() ? "no error" : std::string(opened.status().message());
  }
  // What reads there, or nothing with errno_ set.
  Bytes Read(int64_t offset, int64_t bytes) {
    Bytes out(bytes, 0xee);
    errno_ = chain_->Read(offset, bytes, reinterpret_cast<char*>(out.data()));
    return errno_ == 0 ? out : Bytes();
  }
  BlockStatus Status(int64_t offset, int64_t bytes) {
    return chain_->Status(offset, bytes, &errno_);
  }
  // Overwrites bytes of the image behind the driver's back.
  void Overwrite(uint64_t offset, const Bytes& data) {
    image_.Put(offset, data);
    image_.Write(folder_ / "image");
  }

  const TempFolder folder_;
  CraftedImage image_;
  std::unique_ptr<OpenChain> chain_;
  int errno_ = 0;
};

TEST_F(Qcow2Test, EveryKindOfCluster) {
  const Bytes data = Pattern(2 * kCluster, 1);
  const Bytes packed_data = Pattern(kCluster, 9);
  const Bytes packed = Deflate(packed_data);
  image_.Put(3 * kCluster, data);
  image_.Put(5 * kCluster + 100, packed);
  image_.SetL2(1, kEntryCopied | 3 * kCluster);
  image_.SetL2(2, 4 * kCluster);  // shared, and contiguous
  image_.SetL2(3, kEntryZero);
  image_.SetL2(4, 3 * kCluster | kEntryZero);
  image_.SetL2(5, CompressedEntry(5 * kCluster + 100, packed.size()));
  Open();
  EXPECT_EQ(chain_->size(), 1 << 20);

  Bytes expected(1 << 20);
  std::copy(data.begin(), data.end(), expected.begin() + kCluster);
  std::copy(packed_data.begin(), packed_data.end(),
            expected.begin() + 5 * kCluster);
  EXPECT_EQ(Read(0, 1 << 20), expected);
  for (int64_t at = 1; at + 4096 < 1 << 20; at += 4093) {
    ASSERT_EQ(Read(at, 4096),
              Bytes(expected.begin() + at, expected.begin() + at + 4096));
  }

  BlockStatus status = Status(kCluster + 512, 1 << 19);
  EXPECT_EQ(status.flags,
            BlockStatus::kData | BlockStatus::kAllocated | BlockStatus::kRaw);
  EXPECT_EQ(status.bytes, 2 * kCluster - 512);
  EXPECT_EQ(status.file_offset, 3 * kCluster + 512);
  EXPECT_EQ(status.file, &chain_->top().child("file")->node());
  status = Status(3 * kCluster, 1 << 19);
  EXPECT_EQ(status.flags, BlockStatus::kZero | BlockStatus::kAllocated);
  EXPECT_EQ(status.bytes, 2 * kCluster);
  status = Status(5 * kCluster, 1 << 19);
  EXPECT_EQ(status.flags, BlockStatus::kData | BlockStatus::kAllocated);
  EXPECT_EQ(status.bytes, kCluster);
  status = Status(6 * kCluster, 10 * kCluster);
  EXPECT_EQ(status.flags, BlockStatus::kZero | BlockStatus::kEof);
  EXPECT_EQ(status.bytes, 10 * kCluster);
}

TEST_F(Qcow2Test, AnOddSizeIsKept) {
  image_.header.size = 3 * kCluster + 777;
  image_.Put(3 * kCluster, Pattern(kCluster, 1));
  image_.SetL2(3, kEntryCopied | 3 * kCluster);
  Open();
  EXPECT_EQ(chain_->size(), 3 * kCluster + 777);
  EXPECT_EQ(Read(3 * kCluster, 777), Pattern(777, 1));
  EXPECT_TRUE(Read(3 * kCluster, 778).empty());
  EXPECT_EQ(errno_, EIO);
}

TEST_F(Qcow2Test, TheLastClusterOfTheFileMayBeCutShort) {
  image_.Put(3 * kCluster, Pattern(1000, 1));
  image_.SetL2(0, kEntryCopied | 3 * kCluster);
  image_.SetL2(1, kEntryCopied | 4 * kCluster);
  Open();
  Bytes expected = Pattern(1000, 1);
  expected.resize(kCluster);
  EXPECT_EQ(Read(0, kCluster), expected);
  // But not missing altogether.
  EXPECT_TRUE(Read(kCluster, 1).empty());
  EXPECT_EQ(errno_, EIO);
  ASSERT_EQ(chain_->reports().size(), 1u);
  EXPECT_THAT(chain_->reports()[0],
              HasSubstr("guest offset 65536: its data lies past the end"));
  // And what is good before it is not read either, as one request.
  EXPECT_TRUE(Read(0, 2 * kCluster).empty());
}

TEST_F(Qcow2Test, DamageIsEioAndReported) {
  const Bytes packed = Deflate(Pattern(kCluster - 1, 3));  // too little
  image_.Put(3 * kCluster, packed);
  image_.SetL2(0, CompressedEntry(3 * kCluster, packed.size()));
  image_.SetL2(1, 3 * kCluster | 2);
  image_.SetL2(2, 3 * kCluster + 512);
  image_.SetL2(3, kEntryCompressed | 100 * kCluster);
  image_.SetL2(4, kEntryCopied | 3 * kCluster);
  Open();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(Read(i * kCluster, 512).empty());
    EXPECT_EQ(errno_, EIO) << i;
  }
  EXPECT_EQ(Status(kCluster, 512).bytes, 0);
  EXPECT_EQ(errno_, EIO);
  EXPECT_FALSE(Read(4 * kCluster, 512).empty());
  ASSERT_EQ(chain_->reports().size(), 5u);
  EXPECT_THAT(chain_->reports()[0], HasSubstr("compressed data is damaged"));
  EXPECT_THAT(chain_->reports()[1], HasSubstr("reserved bits"));
  EXPECT_THAT(chain_->reports()[2], HasSubstr("not aligned"));
  EXPECT_THAT(chain_->reports()[3], HasSubstr("past the end of the file"));
}

TEST_F(Qcow2Test, Version2HasNoZeroClusters) {
  image_.header.version = 2;
  image_.SetL2(1, kEntryZero);
  Open();
  EXPECT_EQ(Read(0, 512), Bytes(512));
  EXPECT_TRUE(Read(kCluster, 512).empty());
  EXPECT_EQ(errno_, EIO);
}

TEST_F(Qcow2Test, CompressedDataMayEndWithTheFile) {
  const Bytes packed = Deflate(Pattern(kCluster, 9));
  image_.Put(3 * kCluster + 77, packed);  // and no byte of its last sector
  image_.SetL2(0, CompressedEntry(3 * kCluster + 77, packed.size()));
  Open();
  EXPECT_EQ(Read(0, kCluster), Pattern(kCluster, 9));
}

TEST_F(Qcow2Test, DamageNeedNotBeReported) {
  image_.SetL2(1, 3 * kCluster | 2);
  image_.Write(folder_ / "image");
  auto opened = OpenChain::Open(folder_ / "image", 1 << 20,
                                /*with_reports=*/false);
  ASSERT_TRUE(opened.ok()) << opened.status();
  chain_ = *std::move(opened);
  EXPECT_TRUE(Read(kCluster, 512).empty());
  EXPECT_EQ(errno_, EIO);
}

TEST_F(Qcow2Test, TablesMustBeInTheFile) {
  constexpr uint64_t kSmall = 512;
  constexpr int64_t kPerTable = 32768;
  image_ = CraftedImage(9, 1 << 20);
  image_.header.l1_size = 32;
  image_.SetL1(1, 1 << 20);
  image_.SetL1(2, 3 * kSmall - 256);
  image_.SetL1(3, kEntryCopied | 2 * kSmall | (uint64_t{1} << 60));
  image_.SetL1(4, 3 * kSmall);  // the file ends within it
  image_.Resize(3 * kSmall + 511);
  Open();
  EXPECT_EQ(Read(0, 512), Bytes(512));
  for (int64_t i = 1; i <= 4; ++i) {
    EXPECT_TRUE(Read(i * kPerTable, 512).empty());
    EXPECT_EQ(errno_, EIO) << i;
  }
  EXPECT_EQ(Read(5 * kPerTable, 512), Bytes(512));
  ASSERT_EQ(chain_->reports().size(), 4u);
  EXPECT_THAT(chain_->reports()[0], HasSubstr("L2 table ends past the end"));
  // With 512-byte clusters the reserved bits are those below a cluster.
  EXPECT_THAT(chain_->reports()[1], HasSubstr("reserved bits"));
  EXPECT_THAT(chain_->reports()[2], HasSubstr("reserved bits"));
  EXPECT_THAT(chain_->reports()[3], HasSubstr("L2 table ends past the end"));
}

TEST_F(Qcow2Test, DirtyAndCorruptImagesCanBeRead) {
  image_.header.incompatible = kIncompatibleDirty | kIncompatibleCorrupt;
  Open();
  EXPECT_EQ(Read(0, 512), Bytes(512));
}

TEST_F(Qcow2Test, HeadersThatAreRefused) {
  image_.header.incompatible = kIncompatibleExtendedL2;
  EXPECT_THAT(OpenError(), HasSubstr("extended L2 entries"));
  image_.header.incompatible = 0;
  image_.header.magic = 0;
  EXPECT_THAT(OpenError(), HasSubstr("not a qcow2 image"));
  image_.Resize(0);
  EXPECT_THAT(OpenError(), HasSubstr("not a qcow2 image"));
  image_ = CraftedImage();
  image_.Resize(71);
  EXPECT_THAT(OpenError(), HasSubstr("ends within the qcow2 header"));
}

TEST_F(Qcow2Test, TheBackingFileShowsThrough) {
  const Bytes base = Pattern(5 * kCluster / 2, 4);
  StoreFile(folder_ / "base", base);
  image_.header.backing_name = "base";
  image_.header.extensions = {{kExtensionBackingFormat, "raw"}};
  image_.Put(3 * kCluster, Pattern(kCluster, 1));
  image_.SetL2(0, kEntryCopied | 3 * kCluster);
  image_.SetL2(1, kEntryZero);
  Open();
  Bytes expected = Pattern(kCluster, 1);
  expected.resize(2 * kCluster);
  expected.insert(expected.end(), base.begin() + 2 * kCluster, base.end());
  expected.resize(1 << 20);  // zeros past its end
  EXPECT_EQ(Read(0, 1 << 20), expected);
  EXPECT_EQ(Status(2 * kCluster, kCluster).flags, 0u);
}

TEST_F(Qcow2Test, ACompressedClusterIsUnpackedOnceForSmallReads) {
  const Bytes data = Pattern(kCluster, 9);
  const Bytes packed = Deflate(data);
  image_.Put(3 * kCluster, packed);
  image_.SetL2(0, CompressedEntry(3 * kCluster, packed.size()));
  Open();
  EXPECT_EQ(Read(0, 4096), Pattern(4096, 9));
  Overwrite(3 * kCluster, Bytes(packed.size(), 0xff));
  for (uint64_t at = 0; at < kCluster; at += 4096) {
    EXPECT_EQ(Read(at, 4096),
              Bytes(data.begin() + at, data.begin() + at + 4096));
  }
  EXPECT_EQ(Read(0, kCluster), data);
}

TEST_F(Qcow2Test, ADamagedClusterIsNotRemembered) {
  const Bytes packed = Deflate(Pattern(kCluster, 9));
  image_.Put(3 * kCluster, Bytes(packed.size(), 0xff));
  image_.SetL2(0, CompressedEntry(3 * kCluster, packed.size()));
  Open();
  EXPECT_TRUE(Read(0, 4096).empty());
  Overwrite(3 * kCluster, packed);
  EXPECT_EQ(Read(0, 4096), Pattern(4096, 9));
}

TEST_F(Qcow2Test, ManyReadersOfManyCompressedClusters) {
  constexpr int kClusters = 16;
  uint64_t at = 3 * kCluster;
  Bytes expected;
  for (int i = 0; i < kClusters; ++i) {
    const Bytes data = Pattern(kCluster, static_cast<uint8_t>(i * 3));
    const Bytes packed = Deflate(data);
    image_.Put(at, packed);
    image_.SetL2(i, CompressedEntry(at, packed.size()));
    at += packed.size();
    expected.insert(expected.end(), data.begin(), data.end());
  }
  Open(/*l2_cache_bytes=*/1);  // a single slice
  Bytes out(expected.size());
  for (int64_t bytes : {512, 4096, 40000, 65536, 300000}) {
    std::vector<OpenChain::Part> parts;
    const auto end = static_cast<int64_t>(out.size());
    for (int64_t offset = 0; offset < end; offset += bytes) {
      parts.push_back({offset, std::min(bytes, end - offset),
                       reinterpret_cast<char*>(out.data()) + offset});
    }
    std::fill(out.begin(), out.end(), 0xee);
    ASSERT_EQ(chain_->ReadAtOnce(parts), 0);
    ASSERT_EQ(out, expected) << bytes;
  }
}

TEST_F(Qcow2Test, LimitsAndSpace) {
  image_.Put(3 * kCluster, Pattern(kCluster, 1));
  Open();
  struct stat info = {};
  ASSERT_EQ(stat((folder_ / "image").c_str(), &info), 0);
  EXPECT_EQ(chain_->disk().AllocatedBytes(), info.st_blocks * 512);
  EXPECT_EQ(chain_->top().limits().request_alignment, 1);
  EXPECT_EQ(chain_->top().limits().opt_transfer, kCluster);
  EXPECT_EQ(chain_->driver().format_name(), "qcow2");
}

// With virtual time: an image in memory, read, then left alone.
Task<void> ReadThenRest(Loop* loop, const CraftedImage* crafted) {
  Graph graph(loop);
  const Bytes bytes = crafted->Bytes();
  const auto file = co_await OpenNode(
      graph,
      ParseNode(absl::StrCat("read_only: false memory { size: \"", bytes.size(),
                             "\" }")),
      OpenContext());
  auto writer = *Backend::Create("writer", *file,
                                 {kConsistentRead | kWrite, kAllPermissions});
  EXPECT_TRUE((co_await writer->Write(
                   0, IoView(bytes.data(), static_cast<int64_t>(bytes.size()))))
                  .ok());
  auto header = co_await ReadHeader(writer->root());
  writer.reset();
  Options options;
  options.idle_ns = 1000000;
  auto driver = std::make_unique<Qcow2>(*std::move(header), std::move(options));
  Qcow2* image = driver.get();
  NodeOptions node_options;
  node_options.read_only = true;
  Node* node = graph.AddNode(std::move(node_options), std::move(driver));
  EXPECT_TRUE(node->AttachChild("file", ChildRole::kFile, *file).ok());
  EXPECT_TRUE((co_await image->Open()).ok());
  auto reader =
      *Backend::Create("reader", node, {kConsistentRead, kAllPermissions});
  char byte = 0;
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE((co_await reader->Read(0, IoView(&byte, 1))).ok());
    EXPECT_EQ(image->l2_cache().cached(), 1);
    co_await loop->SleepUntil(loop->NowNs() + 10000000);
    EXPECT_EQ(image->l2_cache().cached(), 0);
  }
  EXPECT_TRUE((co_await reader->Read(0, IoView(&byte, 1))).ok());
  reader.reset();
  EXPECT_TRUE((co_await graph.Close()).ok());
}

TEST_F(Qcow2Test, CachesAreGivenBackWhenIdle) {
  image_.SetL2(0, kEntryZero);
  SimWorld world(1);
  world.Run(ReadThenRest(&world.loop(), &image_));
}

}  // namespace
}  // namespace bgfs::qcow2
