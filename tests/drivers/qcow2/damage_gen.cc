#include "tests/drivers/qcow2/damage_gen.h"

#include <algorithm>
#include <array>
#include <random>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/refcount_entries.h"
#include "tests/drivers/qcow2/chain_gen.h"
#include "tests/drivers/qcow2/file_bytes.h"
#include "tests/drivers/qcow2/raw_header.h"

namespace bgfs::qcow2 {
namespace {

using Areas = std::vector<std::pair<uint64_t, uint64_t>>;

struct Recipe {
  const char* name;
  const char* create;  // of `qemu-img create`
  const char* fill;    // of `qemu-io`
  const char* refill;  // after a snapshot; null: no snapshot
  bool bitmaps = false;
};

constexpr Recipe kRecipes[] = {
    {"plain", "-o cluster_size=64k 4M",
     "-c 'write -P 1 0 1M' -c 'write -z 1M 200k'", "-c 'write -P 2 64k 300k'"},
    {"small", "-o cluster_size=512 256k",
     "-c 'write -P 1 0 60k' -c 'write -z 90k 20k' -c 'discard 4k 4k'",
     "-c 'write -P 2 16k 20k'"},
    {"version2", "-o cluster_size=4k,compat=0.10 4M",
     "-c 'write -P 1 0 100k' -c 'write -c -P 3 2M 64k'",
     "-c 'write -P 2 32k 40k'"},
    {"refcount1", "-o cluster_size=4k,refcount_bits=1 4M",
     "-c 'write -P 1 0 100k' -c 'write -z 1M 64k'", nullptr},
    {"refcount2", "-o cluster_size=512,refcount_bits=2 256k",
     "-c 'write -P 1 0 100k'", "-c 'write -P 2 32k 40k'"},
    {"refcount64", "-o cluster_size=512,refcount_bits=64 256k",
     "-c 'write -P 1 0 100k'", "-c 'write -P 2 32k 40k'"},
    {"large", "-o cluster_size=2M 16M", "-c 'write -P 1 0 2M'",
     "-c 'write -P 2 2M 64k'"},
    {"compressed", "-o cluster_size=16k,compression_type=zstd 4M",
     "-c 'write -c -P 1 0 256k' -c 'write -c -P 3 1M 128k'",
     "-c 'write -P 2 32k 40k'"},
    {"overlay", "-o cluster_size=32k -b base.img -F raw 4M",
     "-c 'write -P 1 0 300k' -c 'write -z -u 1M 100k'",
     "-c 'write -P 2 32k 40k'"},
    // Without snapshots: `qemu-img check -r all` (7.2) forgets those of an
    // image with bitmaps.
    {"bitmaps", "-o cluster_size=4k 4M", "-c 'write -P 1 0 100k'", nullptr,
     true},
    {"extended", "-o cluster_size=16k,extended_l2=on 4M",
     "-c 'write -P 1 0 100k' -c 'write -z 1M 3k' -c 'write -P 4 2M 2k'",
     "-c 'write -P 2 32k 40k'"},
};

std::string CommandFor(const Recipe& recipe) {
  const std::string image = absl::StrCat(recipe.name, ".qcow2");
  const std::string io = "qemu-io -t unsafe -d unmap -f qcow2 ";
  std::string command =
      absl::StrCat("qemu-img create -q -f qcow2 ", recipe.create);
  // The size comes after the name.
  const size_t space = command.rfind(' ');
  command.insert(space, absl::StrCat(" ", image));
  absl::StrAppend(&command, " && ", io, recipe.fill, " ", image);
  if (recipe.bitmaps) {
    absl::StrAppend(&command, " && qemu-img bitmap --add -g 64k ", image,
                    " first && qemu-img bitmap --add ", image, " second && ",
                    io, "-c 'write -P 9 3M 64k' ", image);
  }
  if (recipe.refill != nullptr) {
    absl::StrAppend(&command, " && qemu-img snapshot -c one ", image, " && ",
                    io, recipe.refill, " ", image,
                    " && qemu-img snapshot -c two ", image);
  }
  return command;
}

// --- Where the metadata is ---------------------------------------------------

uint64_t Word(const std::vector<uint8_t>& image, uint64_t at) {
  return at + 8 <= image.size() ? LoadBig64(&image[at]) : 0;
}

struct SnapshotPlace {
  uint64_t l1 = 0;
  uint64_t entries = 0;
};

// Of a good image.
uint64_t EndOfSnapshots(const std::vector<uint8_t>& image, const Header& header,
                        std::vector<SnapshotPlace>* places) {
  uint64_t at = header.snapshots_offset;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    const uint8_t* entry = &image[at];
    places->push_back({LoadBig64(entry), LoadBig32(entry + 8)});
    const uint64_t names = uint64_t{entry[12]} << 8 | entry[13];
    const uint64_t name = uint64_t{entry[14]} << 8 | entry[15];
    at += (40 + LoadBig32(entry + 36) + names + name + 7) / 8 * 8;
  }
  return at;
}

void AddL2Tables(const std::vector<uint8_t>& image, const Header& header,
                 Areas* areas) {
  const auto l1 = static_cast<uint64_t>(header.l1_table.value());
  const auto cluster = static_cast<uint64_t>(header.geometry.cluster_size());
  for (int64_t i = 0; i < header.l1_entries; ++i) {
    const uint64_t table =
        Word(image, l1 + static_cast<uint64_t>(i) * 8) & kEntryOffsetMask;
    if (table == 0) continue;
    // Most of a large one is zeros.
    areas->push_back({table, table + std::min<uint64_t>(cluster, 512)});
  }
}

Areas RefcountAreas(const std::vector<uint8_t>& image, const Header& header,
                    bool blocks) {
  const uint64_t table = header.refcount_table_offset;
  const auto cluster = header.geometry.cluster_size();
  const int64_t per_block = RefcountsPerBlock(cluster, header.refcount_order);
  const auto clusters = static_cast<int64_t>(image.size()) / cluster;
  const int64_t used = clusters / per_block + 1;
  if (!blocks) return {{table, table + static_cast<uint64_t>(used + 2) * 8}};
  Areas areas;
  for (int64_t i = 0; i < used; ++i) {
    const uint64_t block = Word(image, table + static_cast<uint64_t>(i) * 8);
    if (block == 0) continue;
    const int64_t counts = std::min(per_block, clusters - i * per_block);
    const int64_t bytes = std::max<int64_t>(8, counts * cluster / per_block);
    areas.push_back({block, block + static_cast<uint64_t>(bytes)});
  }
  return areas;
}

// --- What is done to it ------------------------------------------------------

void FlipSomething(std::vector<uint8_t>& bytes, uint64_t at,
                   std::mt19937_64& random) {
  const uint64_t word = Word(bytes, at);
  const uint64_t bit = uint64_t{1} << (random() % 64);
  uint64_t changed = 0;
  switch (random() % 8) {
    case 0:
    case 1:
      changed = word ^ bit;
      break;
    case 2:
      changed = 0;
      break;
    case 3:
      changed = random();
      break;
    case 4:
      changed = word + (uint64_t{1} << (9 + random() % 13));
      break;
    case 5:
      changed = word ^ kEntryCopied;
      break;
    case 6:  // somewhere else in the file
      changed = (word & kEntryCopied) | (random() % bytes.size() & ~0x1ffull);
      break;
    default:
      bytes[at + random() % 8] = static_cast<uint8_t>(random());
      return;
  }
  StoreBig64(&bytes[at], changed);
}

}  // namespace

const char* NameOf(DamageTo kind) {
  static constexpr std::array<const char*, 8> kNames = {"Header",
                                                        "L1",
                                                        "L2",
                                                        "RefcountTable",
                                                        "RefcountBlock",
                                                        "SnapshotTable",
                                                        "SnapshotL1",
                                                        "BitmapDirectory"};
  return kNames[static_cast<size_t>(kind)];
}

absl::Status MakeGoodImages(const std::string& folder,
                            std::vector<GoodImage>* images) {
  std::string base = absl::StrCat("cd ", folder,
                                  " && truncate -s 4M base.img && qemu-io -f "
                                  "raw -c 'write -P 8 512k 2M' base.img");
  if (auto made = RunCommand(base); !made.ok()) return made.status();
  for (const Recipe& recipe : kRecipes) {
    const auto made =
        RunCommand(absl::StrCat("cd ", folder, " && ", CommandFor(recipe)));
    if (!made.ok()) return made.status();
    images->push_back({recipe.name, LoadFile(absl::StrCat(
                                        folder, "/", recipe.name, ".qcow2"))});
  }
  return absl::OkStatus();
}

std::vector<std::pair<uint64_t, uint64_t>> AreasOf(
    const std::vector<uint8_t>& image, DamageTo kind) {
  const auto parsed = ParseHeaderForCheck(absl::MakeSpan(image).subspan(
      0, std::min<size_t>(image.size(), 2 << 20)));
  if (!parsed.ok()) return {};
  const Header& header = *parsed;
  const auto l1 = static_cast<uint64_t>(header.l1_table.value());
  std::vector<SnapshotPlace> snapshots;
  const uint64_t snapshots_end = EndOfSnapshots(image, header, &snapshots);
  Areas areas;
  switch (kind) {
    case DamageTo::kHeader:
      return {{0, 72}, {0, 112}, {0, 200}};
    case DamageTo::kL1:
      return {{l1, l1 + static_cast<uint64_t>(header.l1_entries) * 8}};
    case DamageTo::kL2:
      AddL2Tables(image, header, &areas);
      return areas;
    case DamageTo::kRefcountTable:
      return RefcountAreas(image, header, /*blocks=*/false);
    case DamageTo::kRefcountBlock:
      return RefcountAreas(image, header, /*blocks=*/true);
    case DamageTo::kSnapshotTable:
      if (snapshots.empty()) return {};
      return {{header.snapshots_offset, snapshots_end}};
    case DamageTo::kSnapshotL1:
      for (const SnapshotPlace& place : snapshots) {
        areas.push_back({place.l1, place.l1 + place.entries * 8});
      }
      return areas;
    case DamageTo::kBitmapDirectory:
      if (!header.bitmaps.has_value()) return {};
      return {
          {header.bitmaps->directory_offset,
           header.bitmaps->directory_offset + header.bitmaps->directory_bytes}};
  }
  return {};
}

std::vector<uint8_t> DamageImage(const GoodImage& image, DamageTo kind,
                                 uint64_t seed, std::string* description) {
  std::mt19937_64 random(seed * 8 + static_cast<uint64_t>(kind));
  const Areas areas = AreasOf(image.bytes, kind);
  std::vector<uint8_t> bytes = image.bytes;
  *description = absl::StrCat(image.name, ", ", NameOf(kind), ", seed ", seed);
  const uint64_t times = 1 + (random() % 4 == 0 ? random() % 3 : 0);
  for (uint64_t i = 0; i < times; ++i) {
    const auto [begin, end] = areas[random() % areas.size()];
    // The magic stays: without it there is no image.
    const uint64_t first = std::max<uint64_t>(begin, begin == 0 ? 4 : 0);
    const uint64_t words = std::max<uint64_t>(1, (end - first) / 8);
    const uint64_t at = first + random() % words * 8;
    if (at + 8 > bytes.size()) continue;
    const uint64_t before = Word(bytes, at);
    FlipSomething(bytes, at, random);
    absl::StrAppend(description, ", at ", at, ": ", absl::Hex(before), " -> ",
                    absl::Hex(Word(bytes, at)));
  }
  return bytes;
}

}  // namespace bgfs::qcow2
