#include "fuse/wire.h"

#include <cerrno>
#include <cstring>

namespace bgfs::fuse {
namespace {

// What remains of a message, taken from its front: arguments, and then names or
// data, which follow them or stand apart.
class Cursor {
 public:
  explicit Cursor(absl::Span<const char> message) : arguments_(message) {}
  Cursor(absl::Span<const char> arguments, absl::Span<const char> rest)
      : arguments_(arguments), apart_(true), rest_(rest) {}

  template <typename T>
  bool Take(T* value) {
    if (arguments_.size() < sizeof(T)) return false;
    std::memcpy(value, arguments_.data(), sizeof(T));
    arguments_.remove_prefix(sizeof(T));
    return true;
  }

  // INIT grew with time: what an older kernel does not send stays zero.
  bool TakeInit(fuse_init_in* init) {
    const size_t bytes = std::min(arguments_.size(), sizeof(*init));
    if (bytes < offsetof(fuse_init_in, max_readahead)) return false;
    std::memcpy(init, arguments_.data(), bytes);
    return true;
  }

  bool TakeName(absl::string_view* name) {
    const absl::Span<const char> rest = Rest();
    const void* end = std::memchr(rest.data(), '\0', rest.size());
    if (end == nullptr) return false;
    const size_t length =
        static_cast<size_t>(static_cast<const char*>(end) - rest.data());
    *name = absl::string_view(rest.data(), length);
    return length > 0;
  }

  bool TakeData(size_t bytes, absl::Span<const char>* data) {
    const absl::Span<const char> rest = Rest();
    if (rest.size() < bytes) return false;
    *data = rest.first(bytes);
    return true;
  }

 private:
  absl::Span<const char> Rest() const { return apart_ ? rest_ : arguments_; }

  absl::Span<const char> arguments_;
  bool apart_ = false;
  absl::Span<const char> rest_;
};

// Opcodes that are answered from the header alone, whatever follows it.
bool NeedsNoArguments(uint32_t opcode) {
  switch (opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_STATFS:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_OPENDIR:
    case FUSE_DESTROY:
    case FUSE_READLINK:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_CREATE:
    case FUSE_TMPFILE:
    case FUSE_IOCTL:
      return true;
    default:
      return false;
  }
}

IoStatus DecodeArguments(Cursor cursor, FuseRequest* request) {
  FuseRequest::Arguments& args = request->args;
  bool ok = false;
  switch (request->opcode) {
    case FUSE_READ:
    case FUSE_READDIR:
      ok = cursor.Take(&args.read);
      break;
    case FUSE_WRITE:
      ok = cursor.Take(&args.write) &&
           cursor.TakeData(args.write.size, &request->data);
      break;
    case FUSE_LOOKUP:
      ok = cursor.TakeName(&request->name);
      break;
    case FUSE_GETATTR:
      ok = cursor.Take(&args.getattr);
      break;
    case FUSE_SETATTR:
      ok = cursor.Take(&args.setattr);
      break;
    case FUSE_OPEN:
      ok = cursor.Take(&args.open);
      break;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
      ok = cursor.Take(&args.fsync);
      break;
    case FUSE_FALLOCATE:
      ok = cursor.Take(&args.fallocate);
      break;
    case FUSE_LSEEK:
      ok = cursor.Take(&args.lseek);
      break;
    case FUSE_COPY_FILE_RANGE:
    case kOpCopyFileRange64:
      ok = cursor.Take(&args.copy_file_range);
      break;
    case FUSE_INIT:
      ok = cursor.TakeInit(&args.init);
      break;
    case FUSE_INTERRUPT:
      ok = cursor.Take(&args.interrupt);
      break;
    default:
      if (!NeedsNoArguments(request->opcode)) return IoError(ENOSYS);
      ok = true;
      break;
  }
  return ok ? IoStatus() : IoError(EINVAL);
}

// False where there is not even a header.
bool TakeHeader(Cursor* cursor, FuseRequest* request, uint32_t* length) {
  *request = FuseRequest();
  fuse_in_header header;
  if (!cursor->Take(&header)) return false;
  *length = header.len;
  request->unique = header.unique;
  request->opcode = header.opcode;
  request->node_id = header.nodeid;
  request->uid = header.uid;
  request->gid = header.gid;
  request->pid = header.pid;
  return true;
}

}  // namespace

IoStatus Decode(absl::Span<const char> message, FuseRequest* request) {
  Cursor cursor(message);
  uint32_t length = 0;
  if (!TakeHeader(&cursor, request, &length) || length != message.size()) {
    return IoError(EINVAL);
  }
  return DecodeArguments(cursor, request);
}

IoStatus Decode(const RingHeader& header, absl::Span<const char> payload,
                FuseRequest* request) {
  Cursor cursor(absl::MakeConstSpan(header.in_out));
  uint32_t length = 0;
  if (!TakeHeader(&cursor, request, &length)) return IoError(EINVAL);
  const absl::Span<const char> arguments =
      absl::MakeConstSpan(header.arguments);
  const size_t fixed = sizeof(fuse_in_header) + header.entry.payload_bytes;
  if (header.entry.payload_bytes > payload.size() || length < fixed ||
      length - fixed > arguments.size()) {
    return IoError(EINVAL);
  }
  const absl::Span<const char> rest = payload.first(header.entry.payload_bytes);
  return DecodeArguments(Cursor(arguments.first(length - fixed), rest),
                         request);
}

}  // namespace bgfs::fuse
