// Writes the inputs with which fuzzing of qcow2 images begins:
//
//   fuzz_qcow2_seeds FOLDER
//
// Small images (clusters of 512 bytes, where there is no reason against it)
// that differ in what the format allows, each with operations of every kind.
// What can be wrong with an image is for the fuzzer to find.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>

#include "tests/drivers/qcow2/new_image.h"
#include "tests/fuzz/disk_ops.h"

namespace bgfs::qcow2 {
namespace {

// As qcow2_fuzz.cc has them.
constexpr uint8_t kForWriting = 1 << 0;
constexpr uint8_t kRepairAll = 1 << 2;
constexpr uint8_t kTogether = 1 << 3;
constexpr uint8_t kTwice = 1 << 6;

std::string Operations() {
  constexpr DiskOp kOperations[] = {
      {0, 0, 3000, 100},    // read
      {2, 0, 700, 300},     // write
      {2, 1, 2048, 8192},   // write, aligned
      {2, 8, 500, 20000},   // write, large
      {3, 5, 4096, 1024},   // zero, aligned, may unmap
      {3, 0, 900, 9000},    // zero
      {7, 0, 0, 0},         // flush
      {1, 0, 60000, 0},     // status
      {4, 1, 3072, 4096},   // discard
      {5, 0, 5000, 30000},  // reserve
      {2, 0, 1500, 2500},   // write
      {6, 0, 0, 12345},     // truncate
      {6, 0, 0, 40000},     // truncate
      {2, 2, 300, 50},      // write, far away
      {0, 8, 4000, 0},      // read, large
  };
  std::string bytes(1, static_cast<char>(std::size(kOperations)));
  bytes.append(reinterpret_cast<const char*>(kOperations), sizeof(kOperations));
  return bytes;
}

// A disk with some of everything, and a snapshot in the middle if it may.
std::string Image(NewImageOptions options, bool snapshot) {
  // Compressed clusters share their place.
  const bool compress = options.refcount_order >= 4;
  NewImage image(std::move(options));
  const int64_t clusters = std::min<int64_t>(image.guest_clusters(), 40);
  for (int64_t i = 0; i < clusters; i += 2) {
    const std::string content(100, static_cast<char>('a' + i % 26));
    if (compress && i % 6 == 0) {
      image.SetCompressed(i, content);
    } else {
      image.SetData(i, content);
    }
  }
  if (snapshot) {
    image.TakeSnapshot("before");
    image.SetData(0, "after");
    image.SetUnallocated(4);
  }
  image.Skip(1);
  return image.Finish();
}

NewImageOptions Small(int cluster_bits = 9) {
  NewImageOptions options;
  options.cluster_bits = cluster_bits;
  options.size_bytes = 24000;
  return options;
}

void Store(const std::string& path, uint8_t options, const std::string& image) {
  std::ofstream(path, std::ios::binary)
      << static_cast<char>(options) << Operations() << image;
}

void StoreAll(const std::string& folder) {
  const uint8_t write = kForWriting | kTwice;
  const auto store = [&](const char* name, uint8_t options,
                         NewImageOptions image, bool snapshot = false) {
    Store(folder + "/" + name, options, Image(std::move(image), snapshot));
  };
  store("read", 0, Small());
  store("written", write, Small());
  store("together", kForWriting | kTogether, Small());
  store("snapshot", write, Small(), /*snapshot=*/true);
  store("larger", write, Small(12));
  NewImageOptions options = Small();
  options.version = 2;
  store("version2", write, options);
  for (const int order : {0, 1, 3, 6}) {
    options = Small();
    options.refcount_order = order;
    const std::string name = "order" + std::to_string(order);
    store(name.c_str(), write, options, /*snapshot=*/order > 0);
  }
  options = Small();
  options.compression = CompressionType::kZstd;
  store("zstd", write, options);
  options = Small();
  options.backing_name = "base";
  options.backing_format = "raw";
  store("backing", write, options);
  options = Small();
  options.lazy_refcounts = options.dirty = true;
  store("dirty", write | kRepairAll, options);
  options = Small();
  options.size_bytes = int64_t{1} << 30;
  options.cluster_bits = 14;
  store("huge", write, options);
  options = Small();
  options.autoclear = uint64_t{1} << 40;
  options.more_fields = std::string(8, 'x');
  options.extensions = {{0x12345678, "unknown"},
                        {kExtensionFeatureNames, std::string(48, 'n')}};
  options.spare_l1_entries = 3;
  store("unknown", write, options);
}

}  // namespace
}  // namespace bgfs::qcow2

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_qcow2_seeds FOLDER\n");
    return 2;
  }
  bgfs::qcow2::StoreAll(argv[1]);
  return 0;
}
