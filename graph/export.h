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
  // OnShutdown(). With `keep_clients` those that still have it open are
  // answered with ESHUTDOWN for as long as they do, also when it is closed.
  void RequestShutdown(bool keep_clients = false);
  // Returns when the last reference has gone and the export is closed: its
  // outcome is that of the last flush.
  Task<absl::Status> WaitClosed();

  // Of one that was closed with `keep_clients`: whether there are any, and the
  // end of what is left of it, which comes before it is destroyed.
  virtual bool has_clients() const { return false; }
  virtual Task<void> EndClients();

 protected:
  bool keep_clients() const { return keep_clients_; }

  // Refuse new clients, answer the old ones with ESHUTDOWN, and see that each
  // gives up its reference. Must not wait.
  virtual void OnShutdown() = 0;
  // The last reference has gone: everything was flushed, nothing is in flight.
  // Ends the connection, unless clients are kept.
  virtual Task<void> OnLastUnref() = 0;

 private:
  Task<void> Finish();

  const std::string id_;
  std::unique_ptr<Backend> backend_;
  int references_ = 1;
  bool shutting_down_ = false;
  bool keep_clients_ = false;
  absl::Status outcome_;
  Event closed_;
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_EXPORT_H_
