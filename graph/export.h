// Exports: backends made visible to clients (engine.md, 6).
//
// An export is referenced by its user (whoever asked for it, once) and by its
// clients (open handles, a connection). RequestShutdown() drops the user's
// reference and tells the clients to go; the last reference out deletes it: the
// graph below is drained and flushed, and the outcome is kept for whoever
// waits.

#ifndef BGFS_GRAPH_EXPORT_H_
#define BGFS_GRAPH_EXPORT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/async/sync.h"
#include "graph/async/task.h"
#include "graph/backend.h"

namespace bgfs {

// An export of one type ("fuse"). Used at home.
class BlockExport {
 public:
  BlockExport(std::string id, std::unique_ptr<Backend> backend)
      : id_(std::move(id)), backend_(std::move(backend)) {}
  BlockExport(const BlockExport&) = delete;
  BlockExport& operator=(const BlockExport&) = delete;
  virtual ~BlockExport() = default;

  virtual absl::string_view type() const = 0;
  const std::string& id() const { return id_; }
  Backend& backend() const { return *backend_; }

  // A client came or went. A client may come only while not shutting down.
  void Ref() { ++references_; }
  void Unref();
  int references() const { return references_; }
  bool shutting_down() const { return shutting_down_; }

  // Drops the user's reference (once; later calls do nothing) and calls
  // OnShutdown().
  void RequestShutdown();
  // Returns when the last reference has gone and the export is closed: its
  // outcome is that of the last flush.
  Task<absl::Status> WaitClosed();

 protected:
  // Refuse new clients, answer the old ones with ESHUTDOWN, and see that each
  // gives up its reference. Must not wait.
  virtual void OnShutdown() = 0;
  // The last reference has gone: everything was flushed, nothing is in flight.
  // Ends the connection.
  virtual Task<void> OnLastUnref() = 0;

 private:
  Task<void> Finish();

  const std::string id_;
  std::unique_ptr<Backend> backend_;
  int references_ = 1;
  bool shutting_down_ = false;
  absl::Status outcome_;
  Event closed_;
};

// The exports of the daemon, whatever their homes; ids are unique. From any
// thread, by the one control operation that runs.
class ExportTable {
 public:
  // ALREADY_EXISTS when the id is taken.
  absl::Status Add(std::unique_ptr<BlockExport> block_export);
  BlockExport* Find(absl::string_view id) const;
  const std::vector<std::unique_ptr<BlockExport>>& exports() const {
    return exports_;
  }
  // Forgets an export that is closed.
  void Remove(BlockExport* block_export);

 private:
  std::vector<std::unique_ptr<BlockExport>> exports_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_EXPORT_H_
