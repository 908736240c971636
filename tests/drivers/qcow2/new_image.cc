#include "tests/drivers/qcow2/new_image.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/entries.h"
#include "graph/async/check.h"
#include "graph/types.h"
#include "tests/drivers/qcow2/raw_header.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kWord = sizeof(uint64_t);

std::string Big(uint64_t value, int bytes) {
  std::vector<uint8_t> out;
  StoreBig(out, 0, value, bytes);
  return {out.begin(), out.end()};
}

std::string Deflate(const std::string& data) {
  z_stream stream = {};
  // Raw deflate in a window of 4 KiB, as QEMU writes it.
  BGFS_CHECK(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9,
                          Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, data.size()), '\0');
  std::string in = data;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  BGFS_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(const std::string& data) {
  std::string out(ZSTD_compressBound(data.size()), '\0');
  const size_t size =
      ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 1);
  BGFS_CHECK(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

}  // namespace

NewImage::NewImage(NewImageOptions options)
    : options_(std::move(options)), geometry_(options_.cluster_bits) {
  BGFS_CHECK(options_.version >= 3 || options_.refcount_order == 4);
  BGFS_CHECK(options_.more_fields.size() % kWord == 0);
  Allocate(1);  // the header
  l1_.resize(static_cast<size_t>(geometry_.L1EntriesFor(options_.size_bytes) +
                                 options_.spare_l1_entries),
             kNone);
  const int64_t l1_bytes = std::ssize(l1_) * kWord;
  l1_host_ = Allocate(
      std::max<int64_t>(1, AlignUp(l1_bytes, cluster_size()) / cluster_size()));
}

uint64_t NewImage::max_count() const {
  const int bits = 1 << options_.refcount_order;
  return bits == 64 ? std::numeric_limits<uint64_t>::max()
                    : (uint64_t{1} << bits) - 1;
}

// --- Host clusters -----------------------------------------------------------

int64_t NewImage::Allocate(int64_t clusters, bool counted) {
  const auto first = static_cast<int64_t>(counts_.size());
  counts_.resize(counts_.size() + static_cast<size_t>(clusters),
                 counted ? 1 : 0);
  bytes_.resize(counts_.size() << options_.cluster_bits);
  return first;
}

void NewImage::Put(int64_t offset, absl::string_view bytes) {
  BGFS_CHECK(offset + std::ssize(bytes) <= std::ssize(bytes_));
  std::copy(bytes.begin(), bytes.end(), bytes_.begin() + offset);
}

void NewImage::PutWord(int64_t offset, uint64_t word) {
  Put(offset, Big(word, kWord));
}

// What looks like entries of tables.
void NewImage::FillWithGarbage(int64_t offset, int64_t bytes) {
  for (int64_t at = 0; at < bytes; ++at) {
    bytes_[static_cast<size_t>(offset + at)] =
        static_cast<char>(at % kWord == 0 ? 0x80 : 0xd0 + at % 29);
  }
}

void NewImage::Leak(int64_t clusters) { Allocate(clusters); }

void NewImage::Skip(int64_t clusters) {
  const int64_t first = Allocate(clusters, /*counted=*/false);
  FillWithGarbage(first * cluster_size(), clusters * cluster_size());
}

// --- Guest clusters ----------------------------------------------------------

// The entry in a table that only the disk refers to.
uint64_t& NewImage::EntryOf(int64_t cluster) {
  BGFS_CHECK(cluster >= 0 && cluster < guest_clusters());
  const GuestCluster guest(cluster);
  int& table = l1_[static_cast<size_t>(geometry_.L1IndexOf(guest).value())];
  if (table == kNone) {
    const int64_t host = Allocate(1);
    tables_.push_back({host, std::vector<uint64_t>(
                                 static_cast<size_t>(geometry_.l2_entries()))});
    table = static_cast<int>(tables_.size()) - 1;
  } else if (const int64_t old = tables_[static_cast<size_t>(table)].host;
             counts_[static_cast<size_t>(old)] > 1) {
    --counts_[static_cast<size_t>(old)];
    Table copy = tables_[static_cast<size_t>(table)];
    copy.host = Allocate(1);
    tables_.push_back(std::move(copy));
    table = static_cast<int>(tables_.size()) - 1;
  }
  return tables_[static_cast<size_t>(table)]
      .entries[static_cast<size_t>(geometry_.L2IndexOf(guest).value())];
}

void NewImage::AddReferences(uint64_t entry, int by) {
  const L2Entry decoded = DecodeL2Entry(entry, geometry_, /*zero_flag=*/true);
  BGFS_CHECK(decoded.kind != ClusterKind::kFault);
  const int64_t start = decoded.host.value();
  if (start == 0) return;
  const int64_t bytes = decoded.kind == ClusterKind::kCompressed
                            ? decoded.compressed_bytes
                            : cluster_size();
  for (int64_t i = start / cluster_size();
       i <= (start + bytes - 1) / cluster_size(); ++i) {
    uint64_t& count = counts_[static_cast<size_t>(i)];
    count += static_cast<uint64_t>(by);
    BGFS_CHECK(count <= max_count());
  }
}

void NewImage::Replace(int64_t cluster, uint64_t entry) {
  uint64_t& place = EntryOf(cluster);
  AddReferences(place, -1);
  place = entry;
}

void NewImage::SetData(int64_t cluster, absl::string_view content) {
  BGFS_CHECK(std::ssize(content) <= cluster_size());
  const int64_t host = Allocate(1) * cluster_size();
  Put(host, content);
  Replace(cluster, static_cast<uint64_t>(host));
}

void NewImage::SetZero(int64_t cluster) {
  BGFS_CHECK(options_.version >= 3);
  Replace(cluster, kEntryZero);
}

void NewImage::SetZeroAllocated(int64_t cluster) {
  BGFS_CHECK(options_.version >= 3);
  const int64_t host = Allocate(1) * cluster_size();
  FillWithGarbage(host, cluster_size());
  Replace(cluster, static_cast<uint64_t>(host) | kEntryZero);
}

void NewImage::SetUnallocated(int64_t cluster) { Replace(cluster, 0); }

std::string NewImage::Compress(std::string cluster) const {
  cluster.resize(static_cast<size_t>(cluster_size()));
  return options_.compression == CompressionType::kZstd ? Zstd(cluster)
                                                        : Deflate(cluster);
}

// Behind the packed data before it, if the counts allow that, the entry can say
// so many sectors and the clusters follow each other; else in new clusters.
int64_t NewImage::PlacePacked(int64_t bytes) {
  const int64_t last = packed_end_ / cluster_size();
  const int64_t cluster_end = (last + 1) * cluster_size();
  const bool behind =
      packed_end_ % cluster_size() != 0 &&
      counts_[static_cast<size_t>(last)] < max_count() &&
      packed_end_ % kCompressedSectorBytes + bytes <= cluster_size() * 2 &&
      (packed_end_ + bytes <= cluster_end || cluster_end == std::ssize(bytes_));
  const int64_t start = behind ? packed_end_ : std::ssize(bytes_);
  packed_end_ = start + bytes;
  const int64_t missing =
      std::max<int64_t>(0, packed_end_ - std::ssize(bytes_));
  Allocate(AlignUp(missing, cluster_size()) / cluster_size(),
           /*counted=*/false);
  return start;
}

void NewImage::SetCompressed(int64_t cluster, absl::string_view content) {
  const std::string packed = Compress(std::string(content));
  EntryOf(cluster);  // so that the table does not come between the data
  const int64_t bytes = std::ssize(packed);
  BGFS_CHECK(bytes <= cluster_size() * 2);
  const int64_t start = PlacePacked(bytes);
  Put(start, packed);
  const int64_t sectors =
      (start % kCompressedSectorBytes + bytes + kCompressedSectorBytes - 1) /
      kCompressedSectorBytes;
  const int offset_bits = 62 - (options_.cluster_bits - 8);
  const uint64_t entry = kEntryCompressed |
                         static_cast<uint64_t>(sectors - 1) << offset_bits |
                         static_cast<uint64_t>(start);
  AddReferences(entry, 1);
  Replace(cluster, entry);
}

void NewImage::TakeSnapshot(const std::string& name) {
  BGFS_CHECK(max_count() > 1);
  for (const int table : l1_) {
    if (table == kNone) continue;
    const Table& shared = tables_[static_cast<size_t>(table)];
    ++counts_[static_cast<size_t>(shared.host)];
    for (const uint64_t entry : shared.entries) AddReferences(entry, 1);
  }
  const int64_t bytes = std::max<int64_t>(1, std::ssize(l1_) * kWord);
  snapshots_.push_back(
      {name, Allocate(AlignUp(bytes, cluster_size()) / cluster_size()), l1_});
}

// --- The end -----------------------------------------------------------------

// COPIED where nothing else refers to it.
uint64_t NewImage::Copied(uint64_t entry) const {
  if ((entry & kEntryCompressed) != 0) return entry;
  const auto host = static_cast<int64_t>(entry & kEntryOffsetMask);
  if (host == 0) return entry;
  const uint64_t count = counts_[static_cast<size_t>(host / cluster_size())];
  return count == 1 ? entry | kEntryCopied : entry;
}

void NewImage::PutL1(int64_t host, const std::vector<int>& l1, bool active) {
  for (size_t i = 0; i < l1.size(); ++i) {
    if (l1[i] == kNone) continue;
    const Table& table = tables_[static_cast<size_t>(l1[i])];
    const auto at = static_cast<uint64_t>(table.host * cluster_size());
    PutWord(host * cluster_size() + static_cast<int64_t>(i) * kWord,
            active ? Copied(at) : at);
    for (size_t j = 0; j < table.entries.size(); ++j) {
      const uint64_t entry = table.entries[j];
      if (entry == 0) continue;
      PutWord(static_cast<int64_t>(at) + static_cast<int64_t>(j) * kWord,
              active ? Copied(entry) : entry);
    }
  }
}

// "Snapshots" in the specification.
void NewImage::PutSnapshots(int64_t* offset) {
  *offset = 0;
  if (snapshots_.empty()) return;
  std::string table;
  for (size_t i = 0; i < snapshots_.size(); ++i) {
    const Snapshot& snapshot = snapshots_[i];
    const std::string id = absl::StrCat(i + 1);
    const auto l1_at = static_cast<uint64_t>(snapshot.l1_host * cluster_size());
    absl::StrAppend(&table, Big(l1_at, 8), Big(snapshot.l1.size(), 4),
                    Big(id.size(), 2), Big(snapshot.name.size(), 2));
    absl::StrAppend(&table, Big(1700000000, 4), Big(0, 4), Big(0, 8), Big(0, 4),
                    Big(16, 4));
    absl::StrAppend(&table, Big(0, 8),
                    Big(static_cast<uint64_t>(options_.size_bytes), 8), id,
                    snapshot.name);
    table.resize((table.size() + 7) / 8 * 8);
  }
  *offset =
      Allocate(AlignUp(std::ssize(table), cluster_size()) / cluster_size()) *
      cluster_size();
  Put(*offset, table);
}

void NewImage::PutRefcounts(int64_t* table, int64_t* table_clusters) {
  const int64_t counts_per_block =
      cluster_size() * 8 >> options_.refcount_order;
  const auto before = static_cast<int64_t>(counts_.size());
  int64_t blocks = 0;
  *table_clusters = 1;
  while (blocks * counts_per_block < before + blocks + *table_clusters) {
    ++blocks;
    *table_clusters = AlignUp(blocks * kWord, cluster_size()) / cluster_size();
  }
  *table = Allocate(*table_clusters) * cluster_size();
  const int64_t first = Allocate(blocks);
  for (int64_t i = 0; i < blocks; ++i) {
    PutWord(*table + i * kWord,
            static_cast<uint64_t>((first + i) * cluster_size()));
  }
  const int bits = 1 << options_.refcount_order;
  for (int64_t i = 0; i < std::ssize(counts_); ++i) {
    if (counted_ >= 0 && i >= counted_ && i < before) continue;
    const uint64_t count = counts_[static_cast<size_t>(i)];
    const int64_t block = (first + i / counts_per_block) * cluster_size();
    const int64_t bit = i % counts_per_block * bits;
    if (bits >= 8) {
      Put(block + bit / 8, Big(count, bits / 8));
    } else {
      char& byte = bytes_[static_cast<size_t>(block + bit / 8)];
      byte = static_cast<char>(static_cast<uint8_t>(byte) |
                               static_cast<uint8_t>(count << (bit % 8)));
    }
  }
}

void NewImage::PutHeader(int64_t table, int64_t table_clusters,
                         int64_t snapshots) {
  RawHeader header;
  header.version = static_cast<uint32_t>(options_.version);
  header.cluster_bits = static_cast<uint32_t>(options_.cluster_bits);
  header.size = static_cast<uint64_t>(options_.size_bytes);
  header.l1_size = static_cast<uint32_t>(l1_.size());
  header.l1_offset = static_cast<uint64_t>(l1_host_ * cluster_size());
  header.refcount_table_offset = static_cast<uint64_t>(table);
  header.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
  header.snapshots = static_cast<uint32_t>(snapshots_.size());
  header.snapshots_offset = static_cast<uint64_t>(snapshots);
  header.refcount_order = static_cast<uint32_t>(options_.refcount_order);
  if (options_.dirty) header.incompatible |= kIncompatibleDirty;
  if (options_.compression == CompressionType::kZstd) {
    header.incompatible |= kIncompatibleCompression;
  }
  if (options_.lazy_refcounts) header.compatible |= kCompatibleLazyRefcounts;
  header.autoclear = options_.autoclear;
  header.compression_type = static_cast<uint8_t>(options_.compression);
  header.more_fields = std::string(7, '\0') + options_.more_fields;
  header.header_length =
      112 + static_cast<uint32_t>(options_.more_fields.size());
  if (!options_.backing_format.empty()) {
    header.extensions.emplace_back(kExtensionBackingFormat,
                                   options_.backing_format);
  }
  for (const auto& extension : options_.extensions) {
    header.extensions.push_back(extension);
  }
  header.backing_name = options_.backing_name;
  const std::vector<uint8_t> first = header.Serialize();
  BGFS_CHECK(std::ssize(first) == cluster_size());
  Put(0, std::string(first.begin(), first.end()));
}

std::string NewImage::Finish(int64_t garbage_bytes) {
  for (const Snapshot& snapshot : snapshots_) {
    PutL1(snapshot.l1_host, snapshot.l1, /*active=*/false);
  }
  PutL1(l1_host_, l1_, /*active=*/true);
  int64_t snapshots = 0;
  PutSnapshots(&snapshots);
  int64_t table = 0;
  int64_t table_clusters = 0;
  PutRefcounts(&table, &table_clusters);
  PutHeader(table, table_clusters, snapshots);
  const int64_t end = std::ssize(bytes_);
  bytes_.resize(static_cast<size_t>(end + garbage_bytes));
  FillWithGarbage(end, garbage_bytes);
  return std::move(bytes_);
}

}  // namespace bgfs::qcow2
