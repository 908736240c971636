// The qcow2 driver. Opening goes in this order, bottom-up like everything in a
// graph:
//
//   header = co_await ReadHeader(file)      through any edge to the image file
//   open what header.backing_name says, or what was configured, or nothing
//   driver = make_unique<Qcow2>(header, options)
//   add the node, attach "file", and "backing" if there is one
//   co_await driver->Open()
//
// Files of the folder, bottom-up: types, format, header and entries say what is
// on the disk; l2_cache and mapping find where guest data is; compression and
// cluster_cache undo compression. Of an image that is written, refcounts and
// allocator know what is free, metadata_map what must not be written over,
// header_file changes the header, writeback keeps the order of writes, and
// writer (with writer_map and resize) serves the requests. qcow2 joins them.

#ifndef BGFS_DRIVERS_QCOW2_QCOW2_H_
#define BGFS_DRIVERS_QCOW2_QCOW2_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "drivers/qcow2/cluster_cache.h"
#include "drivers/qcow2/header.h"
#include "drivers/qcow2/mapping.h"
#include "drivers/qcow2/writer.h"
#include "graph/async/idle_timer.h"
#include "graph/chain_map.h"
#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

// Reads and checks the header of the image in `file`, at home. Errors are one
// phrase, without the file's name: InvalidArgument and Unimplemented as
// ParseHeader's, or what reading met.
Task<absl::StatusOr<Header>> ReadHeader(Child& file);

struct Options {
  // The most memory for cached L2 tables (`l2_cache_size`).
  int64_t l2_cache_bytes = int64_t{32} << 20;
  // After so long without a request all caches are given back.
  int64_t idle_ns = int64_t{60} * 1000 * 1000 * 1000;
  // After so long without another discard the space is given back, which
  // otherwise waits for the guest's next flush.
  int64_t release_ns = int64_t{1000} * 1000 * 1000;
  // Told, in one line, of damage that a read met. May be empty.
  Mapping::Report report;
};

class Qcow2 final : public Driver {
 public:
  // Without a header, Open() reads it.
  Qcow2(absl::optional<Header> header, Options options);

  // Reads what lookups need. A node that is not read_only must pass
  // CheckWritable() (writer.h).
  Task<absl::Status> Open() override;

  // Once open.
  const Header& header() const { return header_; }
  // Between Open() and Close().
  const L2Cache& l2_cache() const { return mapping_->l2_cache(); }

  absl::string_view format_name() const override { return "qcow2"; }
  Task<IoStatus> Read(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Write(Request& request, int64_t offset, IoView data) override;
  Task<IoStatus> Zero(Request& request, int64_t offset, int64_t bytes,
                      RequestFlags flags) override;
  Task<IoStatus> Discard(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Reserve(Request& request, int64_t offset,
                         int64_t bytes) override;
  Task<IoStatus> Truncate(Request& request, int64_t size_bytes,
                          Preallocation preallocation) override;
  Task<IoStatus> FlushToOs() override;
  Task<void> AfterFlush() override;
  Task<IoResult<BlockStatus>> Status(Request& request, int64_t offset,
                                     int64_t bytes, bool precise) override;
  Task<IoResult<Range>> ChangeWindow(const Request& request) override;
  Task<IoResult<int64_t>> AllocatedBytes() override;
  void AddStatistics(DriverStatistics* statistics) const override;
  void RefreshLimits(Limits* limits) override;
  Task<IoStatus> Inactivate() override;
  Task<void> Close() override;

 private:
  Task<absl::Status> PrepareToWrite();
  Task<absl::Status> RepairDirty();
  Task<absl::Status> OpenForWriting();
  void OnIdle();
  Task<void> CommitWhenIdle(InFlight::Holder holder);
  Task<void> MarkCorrupt(InFlight::Holder holder);
  Task<IoStatus> ReadExtent(Request& request, Extent extent, IoView data);
  Task<IoStatus> ReadExtents(Request& request, Extent first, IoView data);
  // What the layers below have.
  Task<IoStatus> ReadBelow(Child& backing, Request& request, int64_t offset,
                           IoView data);
  BlockStatus StatusOf(const Extent& extent) const;
  Task<IoResult<BlockStatus>> Refine(Request& request, BlockStatus status);

  bool has_header_;
  Header header_;
  Options options_;
  Child* file_ = nullptr;
  std::unique_ptr<Mapping> mapping_;
  std::unique_ptr<ClusterCache> cluster_cache_;
  std::unique_ptr<ChainMap> chain_map_;
  std::unique_ptr<Writer> writer_;  // null: read-only
  std::unique_ptr<IdleTimer> idle_;
  std::unique_ptr<IdleTimer> discarded_;  // nothing for a while
};

}  // namespace bgfs::qcow2

#endif  // BGFS_DRIVERS_QCOW2_QCOW2_H_
