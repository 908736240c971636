#include "tests/drivers/qcow2/random_image.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bgfs::qcow2 {
namespace {

class Maker {
 public:
  Maker(SimRandom* random, RandomImageOptions options)
      : random_(*random), options_(std::move(options)), image_(options_.image) {
    made_.clusters.resize(static_cast<size_t>(image_.guest_clusters()));
  }

  RandomImage Make();

 private:
  int64_t PickCluster() {
    return random_.Between(options_.first_cluster, options_.end_cluster - 1);
  }
  // Gives a guest cluster something to hold.
  void Set(int64_t cluster);
  void SetSome(double share);
  void SetOther(int64_t cluster, Source* source);

  SimRandom& random_;
  const RandomImageOptions options_;
  NewImage image_;
  RandomImage made_;
  bool old_ = true;
};

// Nothing, or zeros of some kind.
void Maker::SetOther(int64_t cluster, Source* source) {
  const int64_t kind = options_.image.version >= 3 ? random_.Below(3) : 0;
  *source = kind == 0 ? Source::kBacking : Source::kZeros;
  if (kind == 0) image_.SetUnallocated(cluster);
  if (kind == 1) image_.SetZero(cluster);
  if (kind == 2) image_.SetZeroAllocated(cluster);
}

void Maker::Set(int64_t cluster) {
  Source& source = made_.clusters[static_cast<size_t>(cluster)];
  const int64_t kind = random_.Below(8);
  if (kind < 2) {
    SetOther(cluster, &source);
    return;
  }
  source = old_ ? Source::kOld : Source::kNew;
  const std::string content = options_.content(cluster, source);
  if (kind < 4) {
    image_.SetCompressed(cluster, content);
  } else {
    image_.SetData(cluster, content);
  }
}

// In order, as a copied disk has them, or anywhere, some of them again.
void Maker::SetSome(double share) {
  if (options_.first_cluster >= options_.end_cluster) return;
  const bool in_order = random_.Chance(0.5);
  for (int64_t i = options_.first_cluster; i < options_.end_cluster; ++i) {
    if (random_.Chance(share)) Set(in_order ? i : PickCluster());
    if (random_.Chance(0.05)) image_.Skip(random_.Between(1, 3));
  }
}

RandomImage Maker::Make() {
  if (options_.leaked_clusters > 0) {
    image_.Leak(options_.leaked_clusters);
    made_.leaks = true;
  }
  const bool snapshot =
      options_.image.refcount_order >= 4 && random_.Chance(0.3);
  if (snapshot) {
    SetSome(options_.allocated);
    image_.TakeSnapshot("before");
    made_.snapshot = made_.clusters;
  }
  old_ = false;
  SetSome(snapshot ? options_.allocated / 2 : options_.allocated);
  if (options_.may_leak && random_.Chance(0.2)) {
    image_.Leak(random_.Between(1, 5));
    made_.leaks = true;
  }
  if (options_.image.dirty) {
    image_.ForgetCounts();
    SetSome(options_.allocated / 4);
  }
  const NewImageOptions& image = options_.image;
  made_.description = absl::StrCat(
      "qcow2 v", image.version, ", clusters of ", image_.cluster_size(),
      ", refcounts of ", 1 << image.refcount_order, " bits, ", image.size_bytes,
      " bytes", snapshot ? ", snapshot" : "", made_.leaks ? ", leaks" : "",
      image.dirty ? ", dirty" : "", image.lazy_refcounts ? ", lazy" : "");
  const bool garbage = random_.Chance(0.3);
  made_.bytes = image_.Finish(
      garbage ? random_.Between(1, 3 * image_.cluster_size()) : 0);
  return std::move(made_);
}

}  // namespace

void AddUnknownFields(SimRandom* random, NewImageOptions* image) {
  if (random->Chance(0.5)) {
    image->extensions.emplace_back(0x12345678, "left alone");
  }
  if (image->version < 3) return;
  if (random->Chance(0.5)) image->more_fields = std::string(16, '\x5a');
  if (random->Chance(0.3)) image->autoclear |= uint64_t{1} << 40;
}

RandomImage MakeRandomImage(SimRandom* random, RandomImageOptions options) {
  return Maker(random, std::move(options)).Make();
}

}  // namespace bgfs::qcow2
