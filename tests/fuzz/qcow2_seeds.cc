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
constexpr uint8_t kSpread = 1 << 7;
constexpr size_t kPieceBytes = 16384;
constexpr size_t kStartBytes = 1024;

// After the header and an L1 table of one cluster.
constexpr int64_t kPlace = 2;

template <size_t kCount>
std::string Serialize(const DiskOp (&operations)[kCount]) {
  std::string bytes(1, static_cast<char>(kCount));
  bytes.append(reinterpret_cast<const char*>(operations), sizeof(operations));
  return bytes;
}

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
  return Serialize(kOperations);
}

// Where the disk ends before what is below does, and grows over it.
std::string ShrinkAndGrow() {
  constexpr DiskOp kOperations[] = {
      {2, 0, 700, 9500},   // write, over the end of what is below
      {5, 0, 3000, 8000},  // reserve
      {3, 0, 2000, 3000},  // zero
      {4, 1, 2048, 6144},  // discard, aligned
      {6, 0, 0, 5000},     // truncate
      {0, 0, 5000, 0},     // read
      {6, 0, 0, 40000},    // truncate
      {0, 0, 12000, 0},    // read
      {2, 0, 300, 7000},   // write
      {1, 0, 40000, 0},    // status
  };
  return Serialize(kOperations);
}

// The disk takes so much that the refcount table has to be moved.
std::string ManyWrites() {
  constexpr DiskOp kOperations[] = {
      {2, 2 | 8, 65535, 2000000},  // write, far away, large
      {2, 0, 700, 300},            // write
      {2, 2 | 8, 65535, 3500000},  // write, far away, large
      {4, 2 | 8, 30000, 2000000},  // discard, far away, large
      {2, 1, 2048, 8192},          // write, aligned
      {2, 2 | 8, 20000, 5000000},  // write, far away, large
  };
  return Serialize(kOperations);
}

// A disk with some of everything, and a snapshot in the middle if it may. The
// host clusters from kPlace on are for what NewImage does not make.
std::string Image(NewImageOptions options, bool snapshot, int64_t places = 0) {
  // Compressed clusters share their place.
  const bool compress = options.refcount_order >= 4;
  NewImage image(std::move(options));
  image.Leak(places);
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

// --- What only a check reads -------------------------------------------------

std::string Big(uint64_t value, int bytes) {
  std::string text;
  while (bytes-- > 0) text += static_cast<char>(value >> (8 * bytes));
  return text;
}

uint64_t WordAt(const std::string& image, uint64_t at) {
  return LoadBig64(reinterpret_cast<const uint8_t*>(&image.at(at)));
}

void Put(std::string* image, uint64_t at, const std::string& bytes) {
  image->replace(at, bytes.size(), bytes);
}

void SetIncompatible(std::string* image, uint64_t bits) {
  bits |= WordAt(*image, kIncompatibleAt);
  Put(image, kIncompatibleAt, Big(bits, 8));
}

// Two of them: one whose table leads to data, one that is all ones.
std::string WithBitmaps(NewImageOptions options) {
  const uint64_t cluster = uint64_t{1} << options.cluster_bits;
  const uint64_t directory = kPlace * cluster;
  const uint64_t tables[] = {directory + cluster, directory + 3 * cluster};
  std::string entries;
  for (const int i : {0, 1}) {
    // One entry, no flags, a type, a granularity, a name, nothing extra.
    entries += Big(tables[i], 8) + Big(1, 4) + Big(0, 4) + Big(1, 1) +
               Big(16, 1) + Big(1, 2) + Big(0, 4);
    entries += static_cast<char>('a' + i) + std::string(7, '\0');
  }
  options.autoclear |= kAutoclearBitmaps;
  options.extensions = {
      {kExtensionBitmaps,
       Big(2, 4) + Big(0, 4) + Big(entries.size(), 8) + Big(directory, 8)}};
  std::string image = Image(std::move(options), false, 4);
  Put(&image, directory, entries);
  Put(&image, tables[0], Big(directory + 2 * cluster, 8));
  Put(&image, tables[1], Big(1, 8));
  return image;
}

std::string Encrypted(NewImageOptions options) {
  const uint64_t cluster = uint64_t{1} << options.cluster_bits;
  options.extensions = {
      {kExtensionCryptHeader, Big(kPlace * cluster, 8) + Big(cluster + 1, 8)}};
  std::string image = Image(std::move(options), false, 2);
  constexpr uint64_t kCryptMethodAt = 32;
  Put(&image, kCryptMethodAt, Big(kCryptLuks, 4));
  return image;
}

// Extended L2 entries: the odd words say which subclusters there are. Image()
// uses no odd guest clusters.
std::string Extended(NewImageOptions options) {
  std::string image = Image(std::move(options), false);
  SetIncompatible(&image, kIncompatibleExtendedL2);
  const uint64_t l1 = WordAt(image, kL1TableAt);
  const uint64_t l2 = WordAt(image, l1) & kEntryOffsetMask;
  for (uint64_t at = l2; at < l2 + 128; at += 16) {
    const uint64_t entry = WordAt(image, at);
    if ((entry & kEntryCompressed) != 0) continue;
    Put(&image, at + 8, Big(0xff00000000ff00ff, 8));
  }
  return image;
}

std::string WithDataFile(NewImageOptions options) {
  options.extensions = {{kExtensionDataFile, "data"}};
  std::string image = Image(std::move(options), false);
  SetIncompatible(&image, kIncompatibleDataFile);
  return image;
}

// The starts of its pieces.
std::string Starts(const std::string& image) {
  std::string starts;
  for (size_t at = 0; at < image.size(); at += kPieceBytes) {
    starts += image.substr(at, kStartBytes);
  }
  return starts;
}

// -----------------------------------------------------------------------------

NewImageOptions Small(int cluster_bits = 9) {
  NewImageOptions options;
  options.cluster_bits = cluster_bits;
  options.size_bytes = 24000;
  return options;
}

void Store(const std::string& path, uint8_t options, const std::string& image,
           const std::string& operations = Operations()) {
  std::ofstream(path, std::ios::binary)
      << static_cast<char>(options) << operations << image;
}

void StoreForCheck(const std::string& folder) {
  const uint8_t repair = kRepairAll;
  Store(folder + "/bitmaps", repair, WithBitmaps(Small()));
  Store(folder + "/encrypted", repair, Encrypted(Small()));
  Store(folder + "/data_file", repair, WithDataFile(Small()));
  NewImageOptions options = Small(14);
  options.size_bytes = 250000;
  Store(folder + "/extended", repair | kSpread, Starts(Extended(options)));
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
  Store(folder + "/larger_backing", write, Image(options, /*snapshot=*/false),
        ShrinkAndGrow());
  options.version = 2;
  Store(folder + "/larger_backing_version2", write,
        Image(options, /*snapshot=*/false), ShrinkAndGrow());
  options = Small();
  options.lazy_refcounts = options.dirty = true;
  store("dirty", write | kRepairAll, options);
  options = Small();
  options.size_bytes = int64_t{1} << 30;
  options.cluster_bits = 14;
  Store(folder + "/huge", write | kSpread,
        Starts(Image(options, /*snapshot=*/false)));
  options = Small();
  options.size_bytes = int64_t{8} << 20;
  options.refcount_order = 6;
  Store(folder + "/moved_refcounts", write, Image(options, /*snapshot=*/false),
        ManyWrites());
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
  bgfs::qcow2::StoreForCheck(argv[1]);
  return 0;
}
