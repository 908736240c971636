// Mutations that know what a qcow2 image is made of, beside those of libFuzzer:
// a field of the header gets a value that means something, an aligned word
// becomes an entry that could stand in a table, or the number of references in
// a refcount block changes. Half of all mutations stay blind.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>

#include "drivers/qcow2/format.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace bgfs::qcow2 {
namespace {

using Random = std::minstd_rand;

// Before the image, as qcow2_fuzz.cc has it.
constexpr size_t kPrefixBytes = 2;
constexpr uint8_t kSpread = 1 << 7;
constexpr size_t kPieceBytes = 16384;
constexpr size_t kStartBytes = 1024;
constexpr size_t kOperationBytes = 8;
constexpr size_t kMaxOperations = 32;

struct Field {
  size_t at;
  int bytes;
};
constexpr Field kFields[] = {
    {4, 4},  {8, 8},  {16, 4},  {20, 4},  {24, 8},  {32, 4},  {36, 4},
    {40, 8}, {48, 8}, {56, 4},  {60, 4},  {64, 8},  {72, 8},  {80, 8},
    {88, 8}, {96, 4}, {100, 4}, {104, 1}, {112, 4}, {116, 4},
};

void StoreBig(uint8_t* to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    to[i] = static_cast<uint8_t>(value >> (8 * (bytes - 1 - i)));
  }
}

// The image, as it stands in the input.
struct Image {
  uint8_t* bytes;
  size_t size;
  bool spread;

  int cluster_bits() const {
    return std::clamp<int>(bytes[23], kMinClusterBits, kMaxClusterBits);
  }
  size_t file_bytes() const {
    return spread ? size / kStartBytes * kPieceBytes : size;
  }
  // Where the cluster or the piece that `at` lies in starts.
  size_t StartOf(size_t at) const {
    return spread ? at / kStartBytes * kStartBytes
                  : at >> cluster_bits() << cluster_bits();
  }
};

// The start of some cluster, in the file more often than not.
uint64_t SomeCluster(const Image& image, Random& random) {
  const int bits = image.cluster_bits();
  const uint64_t clusters = (image.file_bytes() >> bits) + 2;
  const uint64_t far = random() % 8 == 0 ? uint64_t{1} << (random() % 50) : 0;
  return (random() % clusters + far) << bits;
}

void ChangeField(const Image& image, Random& random) {
  const Field field = kFields[random() % std::size(kFields)];
  if (field.at + field.bytes > image.size) return;
  const uint64_t values[] = {
      random() % 8,
      random() % 300,
      uint64_t{1} << (random() % 64),
      ~uint64_t{0} >> (random() % 64),
      SomeCluster(image, random),
      image.file_bytes() + random() % 512,
  };
  StoreBig(image.bytes + field.at, values[random() % std::size(values)],
           field.bytes);
}

uint64_t SomeEntry(const Image& image, Random& random) {
  const uint64_t cluster = SomeCluster(image, random);
  switch (random() % 8) {
    case 0:
      return 0;
    case 1:
      return kEntryZero;
    case 2:
      return cluster | kEntryCopied | kEntryZero;
    case 3: {
      const int offset_bits = 62 - (image.cluster_bits() - 8);
      return kEntryCompressed | (cluster + random() % 512) |
             (uint64_t{random() % 4} << offset_bits);
    }
    case 4:
      return cluster;
    case 5:
      return cluster | uint64_t{1} << (random() % 64);
    default:
      return cluster | kEntryCopied;
  }
}

void ChangeEntry(const Image& image, Random& random) {
  const size_t words = image.size / 8;
  // Those in use lie at the beginning of a cluster.
  size_t at = random() % words * 8;
  if (random() % 2 == 0) at = image.StartOf(at) + random() % 16 * 8;
  if (at + 8 > image.size) return;
  StoreBig(image.bytes + at, SomeEntry(image, random), 8);
}

void ChangeCount(const Image& image, Random& random) {
  const size_t at = image.StartOf(random() % image.size) + random() % 32;
  if (at < image.size) image.bytes[at] = static_cast<uint8_t>(random() % 4);
}

bool ChangeImage(const Image& image, Random& random) {
  if (image.size < kVersion3HeaderBytes) return false;
  switch (random() % 4) {
    case 0:
      ChangeField(image, random);
      break;
    case 1:
      ChangeCount(image, random);
      break;
    default:
      ChangeEntry(image, random);
      break;
  }
  return true;
}

}  // namespace
}  // namespace bgfs::qcow2

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned int seed) {
  using namespace bgfs::qcow2;  // NOLINT(google-build-using-namespace)
  Random random(seed + 1);
  if (size < kPrefixBytes || random() % 2 == 0) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  const size_t operations = data[1] % kMaxOperations;
  const size_t begin = kPrefixBytes + operations * kOperationBytes;
  if (begin >= size) return LLVMFuzzerMutate(data, size, max_size);
  // What is done, without moving the image.
  if (operations > 0 && random() % 3 == 0) {
    uint8_t* const operation =
        data + kPrefixBytes + random() % operations * kOperationBytes;
    LLVMFuzzerMutate(operation, kOperationBytes, kOperationBytes);
    return size;
  }
  const Image image{data + begin, size - begin, (data[0] & kSpread) != 0};
  for (size_t changes = 1 + random() % 3; changes > 0; --changes) {
    if (!ChangeImage(image, random)) {
      return LLVMFuzzerMutate(data, size, max_size);
    }
  }
  return size;
}
