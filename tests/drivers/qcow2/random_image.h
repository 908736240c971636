// Random qcow2 images out of everything that NewImage can make, and what their
// disks show.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_RANDOM_IMAGE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_RANDOM_IMAGE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/drivers/qcow2/new_image.h"
#include "tests/sim/sim_random.h"

namespace bgfs::qcow2 {

// Where a guest cluster's bytes come from. kOld: put there before the snapshot
// was taken.
enum class Source : uint8_t { kBacking, kZeros, kOld, kNew };

struct RandomImage {
  std::string bytes;        // of the file
  std::string description;  // one line
  std::vector<Source> clusters;
  // The same at the time of its internal snapshot; empty if it has none.
  std::vector<Source> snapshot;
  bool leaks = false;
};

struct RandomImageOptions {
  // Which version, widths, size, ...; chance decides what `image` does not.
  NewImageOptions image;
  // What a guest cluster holds whose source is kOld or kNew.
  std::function<std::string(int64_t cluster, Source source)> content;
  // Clusters outside of it stay unallocated.
  int64_t first_cluster = 0;
  int64_t end_cluster = 0;
  double allocated = 0.6;  // how many of them are not
  bool may_leak = true;
  int64_t leaked_clusters = 0;  // so many at least
};

// Fields that any image may have and no program knows.
void AddUnknownFields(SimRandom* random, NewImageOptions* image);

RandomImage MakeRandomImage(SimRandom* random, RandomImageOptions options);

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_RANDOM_IMAGE_H_
