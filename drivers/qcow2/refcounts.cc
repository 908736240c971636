#include "drivers/qcow2/refcounts.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/qcow2/format.h"
#include "drivers/qcow2/refcount_entries.h"
#include "graph/async/check.h"

namespace bgfs::qcow2 {
namespace {

constexpr int64_t kCachedBytes = int64_t{4} << 20;
constexpr int64_t kMinBlocks = 4;
// Of a block so much is written around what changed: a page, so that the
// kernel need not read it first.
constexpr int64_t kWriteUnit = 4096;

uint8_t* BytesOf(const AlignedBuffer& buffer) {
  return reinterpret_cast<uint8_t*>(buffer.data());
}

}  // namespace

Refcounts::Refcounts(const Header& header, Child* file, HeaderFile* header_file,
                     MetadataMap* metadata)
    : geometry_(header.geometry),
      order_(header.refcount_order),
      entries_bits_(header.geometry.cluster_bits() + 3 - header.refcount_order),
      capacity_(static_cast<size_t>(
          std::max(kMinBlocks, kCachedBytes / header.geometry.cluster_size()))),
      file_(file),
      header_file_(header_file),
      metadata_(metadata),
      table_(static_cast<size_t>(header.refcount_table_clusters) *
             static_cast<size_t>(header.geometry.cluster_size() / 8)),
      table_at_(static_cast<int64_t>(header.refcount_table_offset)),
      header_table_at_(table_at_),
      header_table_clusters_(header.refcount_table_clusters) {}

Task<IoStatus> Refcounts::Load() {
  BGFS_CO_TRY(co_await file_->Read(
      nullptr, table_at_.value(),
      IoView(table_.data(), static_cast<int64_t>(table_.size() * 8))));
  for (uint64_t& entry : table_) {
    entry = FromBig64(entry);
    const HostOffset block(static_cast<int64_t>(entry & kEntryOffsetMask));
    if (block.value() != 0) {
      metadata_->Add(MetadataKind::kRefcountBlock, block, 1);
    }
  }
  co_return IoStatus();
}

// --- Counts in a block -------------------------------------------------------

const Refcounts::Block& Refcounts::Cached(int64_t index) const {
  const auto found = index_.find(index);
  BGFS_CHECK(found != index_.end());
  return *found->second;
}

uint64_t Refcounts::Get(HostCluster cluster) const {
  return LoadRefcount(BytesOf(Cached(BlockOf(cluster)).bytes), order_,
                      IndexIn(cluster));
}

void Refcounts::Set(HostCluster cluster, uint64_t count) {
  const auto found = index_.find(BlockOf(cluster));
  BGFS_CHECK(found != index_.end());
  Block& block = *found->second;
  const int64_t index = IndexIn(cluster);
  StoreRefcount(BytesOf(block.bytes), order_, index, count);
  const int64_t at = (index << order_) >> 3;
  const int64_t unit = std::min(kWriteUnit, geometry_.cluster_size());
  if (!block.dirty()) {
    ++dirty_;
    block.dirty_from = AlignDown(at, unit);
    block.dirty_to = block.dirty_from + unit;
  }
  block.dirty_from = std::min(block.dirty_from, AlignDown(at, unit));
  block.dirty_to = std::max(block.dirty_to, AlignDown(at, unit) + unit);
  block.version = next_version_++;
}

HostRun Refcounts::FindFree(HostCluster from, int64_t most) const {
  const uint8_t* const bytes = BytesOf(Cached(BlockOf(from)).bytes);
  const int64_t entries = int64_t{1} << entries_bits_;
  int64_t i = IndexIn(from);
  while (i < entries && LoadRefcount(bytes, order_, i) != 0) ++i;
  HostRun run;
  run.first = StartOfBlock(BlockOf(from)) + i;
  while (i < entries && run.clusters < most &&
         LoadRefcount(bytes, order_, i) == 0) {
    ++i;
    ++run.clusters;
  }
  return run;
}

// --- The cache ---------------------------------------------------------------

int64_t Refcounts::EvictTo(size_t blocks) {
  int64_t evicted = 0;
  auto last = blocks_.end();
  while (blocks_.size() > blocks && last != blocks_.begin()) {
    --last;
    if (last->dirty()) continue;
    index_.erase(last->index);
    last = blocks_.erase(last);
    ++evicted;
  }
  return evicted;
}

void Refcounts::DropClean() { EvictTo(0); }

void Refcounts::Keep(Block block) {
  evictions_ += EvictTo(capacity_ - 1);
  const int64_t index = block.index;
  blocks_.push_front(std::move(block));
  index_[index] = blocks_.begin();
}

Task<IoStatus> Refcounts::CheckEntry(int64_t block) {
  const uint64_t raw = table_[static_cast<size_t>(block)];
  const HostOffset at(static_cast<int64_t>(raw & ~kRefcountTableReserved));
  const char* fault = nullptr;
  if ((raw & kRefcountTableReserved) != 0) {
    fault = "has reserved bits set";
  } else if (!geometry_.IsClusterStart(at)) {
    fault = "is not aligned to a cluster";
  } else if (at.value() < 0 ||
             at.value() > file_->size() - geometry_.cluster_size()) {
    fault = "leads past the end of the file";
  }
  if (fault == nullptr) co_return IoStatus();
  co_return co_await header_file_->MarkCorrupt(
      absl::StrCat("entry ", block, " of its refcount table ", fault));
}

Task<IoStatus> Refcounts::Require(int64_t block) {
  if (const auto found = index_.find(block); found != index_.end()) {
    ++hits_;
    blocks_.splice(blocks_.begin(), blocks_, found->second);
    co_return IoStatus();
  }
  BGFS_CHECK(HasBlock(block));
  ++misses_;
  BGFS_CO_TRY(co_await CheckEntry(block));
  Block read;
  read.index = block;
  read.at =
      HostOffset(static_cast<int64_t>(table_[static_cast<size_t>(block)]));
  read.bytes = AlignedBuffer::Allocate(geometry_.cluster_size());
  if (!read.bytes) co_return IoError(ENOMEM);
  BGFS_CO_TRY(
      co_await file_->Read(nullptr, read.at.value(), read.bytes.view()));
  Keep(std::move(read));
  co_return IoStatus();
}

// --- Growing -----------------------------------------------------------------

IoResult<Refcounts::Block> Refcounts::NewBlock(int64_t index,
                                               HostCluster at) const {
  Block block;
  block.index = index;
  block.at = geometry_.StartOf(at);
  block.bytes = AlignedBuffer::Allocate(geometry_.cluster_size());
  if (!block.bytes) return IoError(ENOMEM);
  std::memset(block.bytes.data(), 0, static_cast<size_t>(block.bytes.size()));
  return block;
}

Task<IoStatus> Refcounts::WriteBlock(const Block& block) {
  co_return co_await file_->Write(nullptr, block.at.value(),
                                  block.bytes.view());
}

Task<IoStatus> Refcounts::CheckFree(HostRun run) {
  const HostOffset at = geometry_.StartOf(run.first);
  const MetadataKind kind = metadata_->Overlap(
      at, run.clusters * geometry_.cluster_size(), MetadataKind::kData);
  if (kind == MetadataKind::kData) co_return IoStatus();
  co_return co_await header_file_->MarkCorrupt(
      absl::StrCat("its refcounts call a cluster free that holds ",
                   NameOf(kind), ", at ", at.value()));
}

// Of a block that fits the table.
Task<IoStatus> Refcounts::Publish(Block block) {
  BGFS_CO_TRY(co_await CheckFree({geometry_.ClusterOf(block.at), 1}));
  BGFS_CO_TRY(co_await WriteBlock(block));
  table_[static_cast<size_t>(block.index)] =
      static_cast<uint64_t>(block.at.value());
  new_entries_.insert(block.index);
  metadata_->Add(MetadataKind::kRefcountBlock, block.at, 1);
  Keep(std::move(block));
  co_return IoStatus();
}

Task<IoResult<HostCluster>> Refcounts::AddBlock(HostCluster at) {
  const int64_t index = BlockOf(at);
  if (index >= static_cast<int64_t>(table_.size())) {
    co_return co_await MoveTable(at);
  }
  IoResult<Block> block = NewBlock(index, at);
  if (!block.ok()) co_return block.status();
  StoreRefcount(BytesOf(block->bytes), order_, IndexIn(at), 1);
  const IoStatus published = co_await Publish(*std::move(block));
  if (!published.ok()) co_return published;
  co_return at + 1;
}

Task<IoStatus> Refcounts::AddBlock(int64_t block, HostCluster at) {
  IoResult<Block> made = NewBlock(block, at);
  if (!made.ok()) co_return made.status();
  BGFS_CO_TRY(co_await Require(BlockOf(at)));
  Set(at, 1);
  const IoStatus published = co_await Publish(*std::move(made));
  if (!published.ok()) Set(at, 0);
  co_return published;
}

Refcounts::Layout Refcounts::LayOut(HostCluster at) const {
  const int64_t per_cluster = geometry_.cluster_size() / 8;
  Layout layout;
  while (true) {
    const int64_t last = BlockOf(at + (layout.total() - 1));
    Layout next;
    next.blocks = last - BlockOf(at) + 1;
    // Half as large again, so that tables move seldom.
    const int64_t entries =
        std::max(last + 2, static_cast<int64_t>(table_.size()) * 3 / 2);
    next.table_clusters = (entries + per_cluster - 1) / per_cluster;
    if (next.total() <= layout.total()) return layout;
    layout = next;
  }
}

Task<IoStatus> Refcounts::WriteTable(HostOffset at,
                                     std::vector<uint64_t> table) {
  for (uint64_t& entry : table) entry = FromBig64(entry);
  co_return co_await file_->Write(
      nullptr, at.value(),
      IoView(table.data(), static_cast<int64_t>(table.size() * 8)));
}

Task<IoResult<HostCluster>> Refcounts::MoveTable(HostCluster at) {
  const Layout layout = LayOut(at);
  const int64_t table_bytes = layout.table_clusters * geometry_.cluster_size();
  if (table_bytes > kMaxRefcountTableBytes) co_return IoError(ENOSPC);
  const HostCluster end = at + layout.total();
  if (IoStatus s = co_await CheckFree({at, layout.total()}); !s.ok()) {
    co_return s;
  }
  std::vector<Block> blocks;
  for (int64_t i = 0; i < layout.blocks; ++i) {
    IoResult<Block> block = NewBlock(BlockOf(at) + i, at + i);
    if (!block.ok()) co_return block.status();
    blocks.push_back(*std::move(block));
  }
  for (HostCluster c = at; c < end; c += 1) {
    Block& block = blocks[static_cast<size_t>(BlockOf(c) - BlockOf(at))];
    StoreRefcount(BytesOf(block.bytes), order_, IndexIn(c), 1);
  }
  std::vector<uint64_t> table = table_;
  table.resize(static_cast<size_t>(table_bytes / 8));
  for (const Block& block : blocks) {
    table[static_cast<size_t>(block.index)] =
        static_cast<uint64_t>(block.at.value());
    if (IoStatus wrote = co_await WriteBlock(block); !wrote.ok()) {
      co_return wrote;
    }
  }
  const HostOffset table_at = geometry_.StartOf(at + layout.blocks);
  if (IoStatus wrote = co_await WriteTable(table_at, table); !wrote.ok()) {
    co_return wrote;
  }
  if (table_at_ != header_table_at_) {
    const int64_t clusters =
        geometry_.ClustersFor(static_cast<int64_t>(table_.size() * 8));
    superseded_.push_back({geometry_.ClusterOf(table_at_), clusters});
  }
  table_ = std::move(table);
  table_at_ = table_at;
  metadata_->Add(MetadataKind::kRefcountTable, table_at, table_bytes);
  for (Block& block : blocks) {
    metadata_->Add(MetadataKind::kRefcountBlock, block.at, 1);
    Keep(std::move(block));
  }
  co_return end;
}

// --- Write-back --------------------------------------------------------------

IoResult<std::vector<Refcounts::Copy>> Refcounts::CopyDirty() const {
  std::vector<Copy> copies;
  for (const Block& block : blocks_) {
    if (!block.dirty()) continue;
    const int64_t bytes = block.dirty_to - block.dirty_from;
    Copy copy{block.index, block.version, block.at + block.dirty_from,
              AlignedBuffer::Allocate(bytes)};
    if (!copy.bytes) return IoError(ENOMEM);
    std::memcpy(copy.bytes.data(), block.bytes.data() + block.dirty_from,
                static_cast<size_t>(bytes));
    copies.push_back(std::move(copy));
  }
  return copies;
}

void Refcounts::Durable(const Copy& copy) {
  const auto found = index_.find(copy.block);
  if (found == index_.end()) return;
  Block& block = *found->second;
  if (!block.dirty() || block.version != copy.version) return;
  block.dirty_from = block.dirty_to = 0;
  --dirty_;
}

Refcounts::TableChange Refcounts::TakeTableChange() {
  TableChange change;
  change.moved = table_at_ != header_table_at_;
  change.table = table_at_;
  change.clusters =
      geometry_.ClustersFor(static_cast<int64_t>(table_.size() * 8));
  change.entries.assign(new_entries_.begin(), new_entries_.end());
  new_entries_.clear();
  return change;
}

void Refcounts::PutBack(const TableChange& change) {
  new_entries_.insert(change.entries.begin(), change.entries.end());
}

Task<IoStatus> Refcounts::WriteEntries(const TableChange& change) {
  for (const int64_t entry : change.entries) {
    const HostOffset at = change.table + entry * 8;
    if (metadata_->Overlap(at, 8, MetadataKind::kRefcountTable) !=
        MetadataKind::kData) {
      co_return co_await header_file_->MarkCorrupt(
          "its refcount table lies over other metadata");
    }
    const uint64_t raw = FromBig64(table_[static_cast<size_t>(entry)]);
    BGFS_CO_TRY(
        co_await file_->Write(nullptr, at.value(), IoView(&raw, sizeof(raw))));
  }
  co_return IoStatus();
}

std::vector<HostRun> Refcounts::Moved(const TableChange& change) {
  std::vector<HostRun> free = {
      {geometry_.ClusterOf(header_table_at_), header_table_clusters_}};
  for (const HostRun& table : superseded_) {
    if (geometry_.StartOf(table.first) != change.table) free.push_back(table);
  }
  superseded_.clear();
  for (const HostRun& table : free) {
    metadata_->Remove(MetadataKind::kRefcountTable,
                      geometry_.StartOf(table.first),
                      table.clusters * geometry_.cluster_size());
  }
  header_table_at_ = change.table;
  header_table_clusters_ = change.clusters;
  return free;
}

}  // namespace bgfs::qcow2
