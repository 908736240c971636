#include "tests/drivers/qcow2/chain_gen.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kSector = 512;

struct Layer {
  bool raw = false;
  bool version2 = false;
  bool zstd = false;
  int cluster_bits = 16;
  int64_t size = 0;
  std::string name;
  std::string preallocation = "off";
  // Clusters that may be allocated: QEMU does not compress into these.
  std::vector<bool> touched;

  int64_t cluster_size() const { return int64_t{1} << cluster_bits; }
};

class Generator {
 public:
  Generator(std::string folder, uint64_t seed)
      : folder_(std::move(folder)), seed_(seed), random_(seed * 2 + 1) {}

  absl::StatusOr<Chain> Make();

 private:
  // A number in [0, end).
  int64_t Below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }
  bool Percent(int percent) { return Below(100) < percent; }

  int top_cluster_bits() const { return 9 + static_cast<int>(seed_ % 13); }
  int refcount_bits() const { return 1 << (seed_ % 7); }
  int64_t DrawSize(int cluster_bits);
  Layer DrawLayer(int level, int depth);
  absl::Status MakeRaw(const Layer& layer);
  absl::Status Create(const Layer& layer, const Layer* backing);
  absl::Status Fill(Layer& layer, int operations);
  std::string DrawOperation(Layer& layer, int number);
  void DrawRange(const Layer& layer, bool aligned, int64_t* offset,
                 int64_t* bytes);
  absl::Status WriteData(const std::string& name, int64_t bytes);
  absl::Status Run(const std::string& command);
  std::string Path(const std::string& name) const {
    return absl::StrCat(folder_, "/", name);
  }

  const std::string folder_;
  const uint64_t seed_;
  std::mt19937_64 random_;
  int64_t usual_size_ = 0;
  std::string log_;
};

// Most disks are some dozens of clusters; some span several L2 tables.
int64_t Generator::DrawSize(int cluster_bits) {
  const int64_t cluster = int64_t{1} << cluster_bits;
  const int64_t table = cluster * (cluster / 8);
  constexpr int64_t kUsual = int64_t{6} << 20;
  constexpr int64_t kMost = int64_t{1} << 30;
  int64_t size = 0;
  if (cluster_bits <= 12 || (Percent(10) && table * 2 <= kMost)) {
    size = std::min(table * (1 + Below(3)), kMost) + Below(cluster * 8);
  } else {
    size = cluster + Below(std::max(kUsual, cluster * 24));
  }
  if (Percent(40)) size -= size % cluster;
  return std::max(kSector, size - size % kSector);
}

Layer Generator::DrawLayer(int level, int depth) {
  Layer layer;
  // The top walks through the cluster sizes with the seed.
  layer.cluster_bits =
      level == depth - 1 ? top_cluster_bits() : 9 + static_cast<int>(Below(13));
  layer.name = absl::StrCat("layer", level, ".qcow2");
  layer.version2 = Percent(25);
  layer.zstd = !layer.version2 && Percent(50);
  if (usual_size_ == 0) usual_size_ = DrawSize(top_cluster_bits());
  layer.size = usual_size_;
  if (Percent(20)) layer.size += kSector * (1 + Below(3000));
  if (Percent(20)) {
    layer.size = std::max(kSector, layer.size / 2 / kSector * kSector);
  }
  // QEMU bounds the L1 table, and does not preallocate over a backing file.
  if (layer.size > (int64_t{64} << 20)) {
    layer.cluster_bits = std::max(layer.cluster_bits, 12);
  }
  if (level == 0 && depth > 1 && Percent(30)) {
    layer.raw = true;
    layer.name = "base.img";
    if (Percent(50)) layer.size += Below(kSector);
  } else if (level == 0 && layer.size < (int64_t{64} << 20)) {
    static constexpr const char* kModes[] = {"off", "off", "metadata", "falloc",
                                             "full"};
    layer.preallocation = kModes[Below(5)];
  }
  layer.touched.resize((layer.size >> layer.cluster_bits) + 1,
                       layer.preallocation != "off");
  return layer;
}

absl::Status Generator::Run(const std::string& command) {
  absl::StrAppend(&log_, command, "\n");
  return RunCommand(absl::StrCat("cd ", folder_, " && ", command)).status();
}

// Half of it can be compressed; no two clusters are alike.
absl::Status Generator::WriteData(const std::string& name, int64_t bytes) {
  std::string data(static_cast<size_t>(bytes), '\0');
  for (size_t at = 0; at < data.size(); at += sizeof(uint64_t)) {
    uint64_t word = random_();
    if ((at / 4096) % 2 == 0) word = (word & 0xff) * 0x0101010101010101 + at;
    std::memcpy(&data[at], &word, std::min(sizeof(word), data.size() - at));
  }
  std::ofstream out(Path(name), std::ios::binary);
  out.write(data.data(), bytes);
  out.close();
  if (!out) return absl::InternalError(absl::StrCat("cannot write ", name));
  return absl::OkStatus();
}

absl::Status Generator::MakeRaw(const Layer& layer) {
  if (auto s = Run(absl::StrCat("truncate -s ", layer.size, " ", layer.name));
      !s.ok()) {
    return s;
  }
  for (int i = 0; i < 6; ++i) {
    const int64_t offset = Below(layer.size);
    const int64_t bytes =
        1 + Below(std::min<int64_t>(layer.size - offset, 1 << 20));
    if (auto s = WriteData("data", bytes); !s.ok()) return s;
    if (auto s = Run(
            absl::StrCat("dd status=none conv=notrunc if=data of=", layer.name,
                         " oflag=seek_bytes seek=", offset));
        !s.ok()) {
      return s;
    }
  }
  return absl::OkStatus();
}

absl::Status Generator::Create(const Layer& layer, const Layer* backing) {
  std::string command = absl::StrCat(
      "qemu-img create -q -f qcow2 -o cluster_size=", layer.cluster_size(),
      ",preallocation=", layer.preallocation);
  if (layer.version2) {
    absl::StrAppend(&command, ",compat=0.10");
  } else {
    absl::StrAppend(&command, ",refcount_bits=", refcount_bits(),
                    layer.zstd ? ",compression_type=zstd" : "",
                    Percent(20) ? ",lazy_refcounts=on" : "");
  }
  if (backing != nullptr) {
    absl::StrAppend(&command, " -b ",
                    Percent(20) ? Path(backing->name) : backing->name, " -F ",
                    backing->raw ? "raw" : "qcow2");
  }
  return Run(absl::StrCat(command, " ", layer.name, " ", layer.size));
}

void Generator::DrawRange(const Layer& layer, bool aligned, int64_t* offset,
                          int64_t* bytes) {
  const int64_t cluster = layer.cluster_size();
  const int64_t most = std::max<int64_t>(cluster * 4, 256 << 10);
  *offset = Below(layer.size) / kSector * kSector;
  *bytes = (1 + Below(Percent(50) ? most : cluster)) / kSector * kSector;
  *bytes = std::max(*bytes, kSector);
  if (aligned) {
    *offset -= *offset % cluster;
    *bytes = (*bytes + cluster - 1) / cluster * cluster;
  }
  *bytes = std::min(*bytes, layer.size - *offset);
}

// Marks the clusters of a range as touched; true if none of them was.
bool Touch(Layer& layer, int64_t offset, int64_t bytes) {
  bool fresh = true;
  const int64_t end = (offset + bytes - 1) >> layer.cluster_bits;
  for (int64_t i = offset >> layer.cluster_bits; i <= end; ++i) {
    fresh = fresh && !layer.touched[i];
    layer.touched[i] = true;
  }
  return fresh;
}

std::string Generator::DrawOperation(Layer& layer, int number) {
  int64_t offset = 0;
  int64_t bytes = 0;
  const int64_t kind = Below(10);
  DrawRange(layer, /*aligned=*/kind < 4 || Percent(30), &offset, &bytes);
  const bool fresh = Touch(layer, offset, bytes);
  const std::string range = absl::StrCat(offset, " ", bytes);
  if (kind >= 8) return absl::StrCat("write -z ", range);
  if (kind == 7) return absl::StrCat("write -z -u ", range);
  if (kind == 6) return absl::StrCat("discard ", range);
  const std::string data = absl::StrCat("data", number);
  if (!WriteData(data, bytes).ok()) return "abort";
  return absl::StrCat(kind < 4 && fresh ? "write -c" : "write", " -s ", data,
                      " ", range);
}

absl::Status Generator::Fill(Layer& layer, int operations) {
  if (operations == 0) return absl::OkStatus();
  // QEMU 7.2 damages an image where compressed writes follow an overwrite of
  // compressed clusters: it goes on filling the host cluster that was freed.
  std::string compressed;
  std::string others;
  for (int i = 0; i < operations; ++i) {
    const std::string operation = DrawOperation(layer, i);
    const bool first = absl::StartsWith(operation, "write -c");
    absl::StrAppend(first ? &compressed : &others, " -c '", operation, "'");
  }
  const std::string command =
      absl::StrCat("qemu-io -t unsafe -d unmap -f qcow2", compressed, others,
                   " ", layer.name);
  if (auto s = Run(command); !s.ok()) return s;
  return RunCommand(absl::StrCat("rm -f ", Path("data*"))).status();
}

absl::StatusOr<Chain> Generator::Make() {
  const int depth = DepthOfChain(seed_);
  std::vector<Layer> layers;
  for (int level = 0; level < depth; ++level) {
    layers.push_back(DrawLayer(level, depth));
    Layer& layer = layers.back();
    absl::Status made =
        layer.raw ? MakeRaw(layer)
                  : Create(layer, level > 0 ? &layers[level - 1] : nullptr);
    if (!made.ok()) return made;
    if (layer.raw) continue;
    const int operations = static_cast<int>(depth > 5 ? Below(4) : Below(12));
    if (auto s = Fill(layer, operations); !s.ok()) return s;
    // Its clusters are shared from then on, which narrow refcounts cannot count
    // where many compressed clusters are in one host cluster.
    if ((layer.version2 || refcount_bits() >= 16) && Percent(15)) {
      if (auto s = Run(absl::StrCat("qemu-img snapshot -c s ", layer.name));
          !s.ok()) {
        return s;
      }
      if (auto s = Fill(layer, 2); !s.ok()) return s;
    }
  }
  Chain chain;
  chain.depth = depth;
  chain.top = Path(layers.back().name);
  chain.expected = Path("expected.raw");
  if (auto s = Run(absl::StrCat("qemu-img convert -t unsafe -f qcow2 -O raw ",
                                layers.back().name, " expected.raw"));
      !s.ok()) {
    return s;
  }
  struct stat expected = {};
  if (stat(chain.expected.c_str(), &expected) != 0) {
    return absl::InternalError("qemu-img convert made nothing");
  }
  chain.size_bytes = expected.st_size;
  chain.description = absl::StrCat("seed ", seed_, "\n", log_);
  return chain;
}

}  // namespace

int DepthOfChain(uint64_t seed) {
  if (seed % 29 == 28) return 40;
  static constexpr int kDepths[] = {1, 2, 5, 2};
  return kDepths[seed % 4];
}

absl::StatusOr<std::string> RunCommand(const std::string& command) {
  FILE* pipe = popen(absl::StrCat("( ", command, " ) 2>&1").c_str(), "r");
  if (pipe == nullptr) return absl::InternalError("cannot start a shell");
  std::string output;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
    output.append(buffer, n);
  }
  if (pclose(pipe) != 0) {
    return absl::InternalError(absl::StrCat(command, "\nsaid: ", output));
  }
  return output;
}

absl::StatusOr<Chain> MakeChain(const std::string& folder, uint64_t seed) {
  return Generator(folder, seed).Make();
}

}  // namespace bgfs::qcow2
