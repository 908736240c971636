// The images that NewImage makes are good ones, to qemu-img and to the driver.

#include "tests/drivers/qcow2/new_image.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/chain_gen.h"
#include "tests/drivers/qcow2/open_chain.h"
#include "tests/drivers/qcow2/random_image.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

// Half of it packs well; no two clusters are alike.
std::string Content(int64_t cluster, Source source, int64_t bytes) {
  const bool old = source == Source::kOld;
  SimRandom random(static_cast<uint64_t>(cluster * 2 + (old ? 1 : 0)) + 77);
  std::string content(static_cast<size_t>(bytes), old ? 'o' : 'n');
  const int64_t noise = cluster % 3 == 0 ? bytes : bytes / 4;
  for (int64_t i = 0; i < noise; ++i) {
    content[static_cast<size_t>(i)] = static_cast<char>(random.Below(256));
  }
  return content;
}

class Subject {
 public:
  explicit Subject(uint64_t seed);

  void ExpectCheckFindsNothing();
  void ExpectQemuReads(const std::string& options,
                       const std::vector<Source>& clusters);
  void ExpectDriverReads();
  const RandomImage& image() const { return image_; }

 private:
  std::string Expected(const std::vector<Source>& clusters);

  SimRandom random_;
  TempFolder folder_;
  std::string backing_;
  int64_t cluster_size_ = 0;
  int64_t size_ = 0;
  RandomImage image_;
  std::string path_;
};

Subject::Subject(uint64_t seed) : random_(seed) {
  RandomImageOptions options;
  NewImageOptions& image = options.image;
  image.cluster_bits = 9 + static_cast<int>(seed % 13);
  image.version = random_.Chance(0.2) ? 2 : 3;
  image.refcount_order =
      image.version == 2 ? 4 : static_cast<int>(random_.Below(7));
  const bool zstd = image.version == 3 && random_.Chance(0.5);
  if (zstd) image.compression = CompressionType::kZstd;
  image.lazy_refcounts = image.version == 3 && random_.Chance(0.3);
  cluster_size_ = int64_t{1} << image.cluster_bits;
  const int64_t clusters = image.cluster_bits > 16 ? 8 : 150;
  size_ = cluster_size_ * random_.Between(1, clusters);
  if (random_.Chance(0.5)) size_ += 512 * random_.Below(cluster_size_ / 512);
  image.size_bytes = size_;
  image.spare_l1_entries = random_.Below(2) * random_.Below(100);
  AddUnknownFields(&random_, &image);
  if (random_.Chance(0.5)) {
    backing_ = std::string(static_cast<size_t>(random_.Between(1, size_)), 'b');
    folder_.Write("base.img", backing_);
    image.backing_name = "base.img";
    image.backing_format = "raw";
  }
  options.content = [this](int64_t cluster, Source source) {
    return Content(cluster, source, cluster_size_);
  };
  options.end_cluster = (size_ + cluster_size_ - 1) / cluster_size_;
  image_ = MakeRandomImage(&random_, options);
  path_ = folder_.Write("disk.qcow2", image_.bytes);
}

// Exit status 3: nothing but leaks.
void Subject::ExpectCheckFindsNothing() {
  const absl::StatusOr<std::string> checked = RunCommand(
      absl::StrCat("qemu-img check -q -f qcow2 ", path_,
                   "; status=$?; [ $status = ", image_.leaks ? 3 : 0, " ]"));
  EXPECT_TRUE(checked.ok()) << checked.status();
}

std::string Subject::Expected(const std::vector<Source>& clusters) {
  std::string expected(static_cast<size_t>(size_), '\0');
  expected.replace(0, backing_.size(), backing_);
  const auto cluster = static_cast<size_t>(cluster_size_);
  for (size_t i = 0; i < clusters.size(); ++i) {
    if (clusters[i] == Source::kBacking) continue;
    std::string content(cluster, '\0');
    if (clusters[i] != Source::kZeros) {
      content = Content(static_cast<int64_t>(i), clusters[i], cluster_size_);
    }
    const size_t bytes = std::min(cluster, expected.size() - i * cluster);
    expected.replace(i * cluster, bytes, content, 0, bytes);
  }
  return expected;
}

void Subject::ExpectQemuReads(const std::string& options,
                              const std::vector<Source>& clusters) {
  const std::string raw = folder_ / "disk.raw";
  const absl::StatusOr<std::string> converted =
      RunCommand(absl::StrCat("qemu-img convert -t unsafe -f qcow2 ", options,
                              " -O raw ", path_, " ", raw));
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_TRUE(ReadHostFile(raw) == Expected(clusters));
}

void Subject::ExpectDriverReads() {
  const auto opened = OpenChain::Open(path_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::string content(static_cast<size_t>((*opened)->size()), '?');
  EXPECT_EQ((*opened)->Read(0, (*opened)->size(), content.data()), 0);
  EXPECT_TRUE(content == Expected(image_.clusters));
}

TEST(NewImage, IsGoodForQemuAndForTheDriver) {
  if (!RunCommand("qemu-img --version").ok()) {
    GTEST_SKIP() << "qemu-img is not installed";
  }
  for (uint64_t seed = 0; seed < 26; ++seed) {
    Subject subject(seed);
    SCOPED_TRACE(
        absl::StrCat("seed ", seed, ": ", subject.image().description));
    subject.ExpectCheckFindsNothing();
    subject.ExpectQemuReads("", subject.image().clusters);
    if (!subject.image().snapshot.empty()) {
      subject.ExpectQemuReads("-l before", subject.image().snapshot);
    }
    subject.ExpectDriverReads();
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

}  // namespace
}  // namespace bgfs::qcow2
