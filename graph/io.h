// NodeIo: what the methods of Child do once a request is tracked: pad it to the
// node's alignment, split it at the node's limits, hand it to the driver, and
// keep the books. io.cc holds the order of things; this header is for graph/
// only.

#ifndef BGFS_GRAPH_IO_H_
#define BGFS_GRAPH_IO_H_

#include <cstdint>

#include "graph/async/io_view.h"
#include "graph/async/task.h"
#include "graph/node.h"
#include "graph/request.h"

namespace bgfs {

inline bool ValidRange(int64_t offset, int64_t bytes) {
  return offset >= 0 && bytes >= 0 && bytes <= Range::kToInfinity - offset;
}

// Where the whole blocks of an unaligned range [offset, end) are: [middle,
// tail), which may be empty. Before and behind it lies less than a block each;
// a range inside one block is all before it.
struct BlockCut {
  int64_t middle;
  int64_t tail;
  int64_t end;

  static BlockCut Of(int64_t offset, int64_t bytes, int64_t alignment);
};

class NodeIo {
 public:
  // What the fallback for zero requests and bounces take at most, bytes.
  static constexpr int64_t kMaxBounce = int64_t{1} << 20;

  // Claims what the request needs and waits until nothing conflicts; the
  // request then runs. Fails when the range is not allowed or the driver's
  // change window cannot be had.
  static Task<IoStatus> Admit(const Child& edge, Request& request);

  // Whether a write that is about to run needs a flush afterwards (kFua).
  static bool NeedsFlush(const Node& node, const Request& request);

  // Whether it is a read that populates its node (kCopyOnRead). If it is
  // serialising when it runs, CopyUp() serves it: there is something to do.
  static bool CopiesUp(const Request& request);
  static Task<IoStatus> CopyUp(Node& node, Request& request, IoView data);

  // Reads any range; what lies past the end of the node gives zeros.
  static Task<IoStatus> Read(Node& node, Request& request, int64_t offset,
                             IoView data);
  // Writes any range, growing the node where it ends past the end.
  static Task<IoStatus> Write(Node& node, Request& request, IoView data);
  static Task<IoStatus> Zero(Node& node, Request& request);
  static Task<IoStatus> Discard(Node& node, Request& request);
  // Of a range inside the node.
  static Task<IoResult<BlockStatus>> Status(Node& node, Request& request,
                                            int64_t offset, int64_t bytes,
                                            bool precise);
  static Task<IoStatus> Truncate(Node& node, Request& request,
                                 int64_t size_bytes,
                                 Preallocation preallocation);

  // The books, before the reply and also when it failed half-way (io.cc, end):
  // the node has something new to flush,
  static void Wrote(Node& node) { ++node.write_generation_; }
  // something is in it up to `end`,
  static void WroteUpTo(Node& node, int64_t end);
  // and this request has changed what a client sees, or may have.
  static void Changed(const Request& request);

 private:
  static IoStatus ClaimForEngine(const Child& edge, Request& request);
  static Task<IoResult<Range>> AskForWindow(Request& request);

  // What a read that copies up would populate.
  static Task<IoResult<Range>> CopyUpWindow(Request& request);
  // Copies [at, end) up, and hands what the request wants of it to `data`.
  static Task<IoStatus> CopyUpPiece(Node& node, Request& request, int64_t at,
                                    int64_t end, IoView data);

  // What an unaligned read and an unaligned write have in common.
  struct Ways;
  static const Ways kReading;
  static const Ways kWriting;
  static Task<IoStatus> Padded(const Ways& ways, Node& node, Request& request,
                               int64_t offset, IoView data);
  // The largest piece of one transfer.
  static int64_t PieceLimit(const Limits& limits);

  static Task<IoStatus> ReadPieces(Node& node, Request& request, int64_t offset,
                                   IoView data);
  static Task<IoStatus> ReadSplit(Node& node, Request& request, int64_t offset,
                                  IoView data);
  static Task<IoStatus> ReadBounced(Node& node, Request& request,
                                    int64_t offset, IoView data);

  static Task<IoStatus> WriteGrowing(Node& node, Request& request, IoView data);
  static Task<IoStatus> WriteRange(Node& node, Request& request, int64_t offset,
                                   IoView data);
  static Task<IoStatus> WritePieces(Node& node, Request& request,
                                    int64_t offset, IoView data);
  static Task<IoStatus> WriteSplit(Node& node, Request& request, int64_t offset,
                                   IoView data);
  static Task<IoStatus> WriteBounced(Node& node, Request& request,
                                     int64_t offset, IoView data);
  // Read-modify-write inside one block of request_alignment.
  static Task<IoStatus> WriteBlockPart(Node& node, Request& request,
                                       int64_t offset, IoView data);

  // The driver's, or what the node remembers.
  static Task<IoResult<BlockStatus>> CachedStatus(Node& node, Request& request,
                                                  int64_t offset, int64_t bytes,
                                                  bool precise);
  static Task<IoResult<BlockStatus>> LeafStatus(Node& node, Request& request,
                                                int64_t offset, int64_t bytes);

  static Task<IoStatus> ZeroRange(Node& node, Request& request, int64_t offset,
                                  int64_t bytes, RequestFlags flags);
  static Task<IoStatus> ZeroPieces(Node& node, Request& request, int64_t offset,
                                   int64_t bytes, RequestFlags flags);
  static Task<IoStatus> WriteZeros(Node& node, Request& request, int64_t offset,
                                   int64_t bytes);
  // Takes away what a write that failed has left past the end, lest a later
  // growth shows it.
  static Task<IoStatus> TrimTail(Node& node, Request& request);
  // Grows the node to `size_bytes`; what is added reads as zeros.
  static Task<IoStatus> Grow(Node& node, Request& request, int64_t size_bytes,
                             Preallocation preallocation);
};

}  // namespace bgfs

#endif  // BGFS_GRAPH_IO_H_
