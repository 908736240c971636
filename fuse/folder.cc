#include "fuse/folder.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "graph/async/check.h"

namespace bgfs::fuse {
namespace {

constexpr uint32_t kBlockBytes = 4096;
constexpr uint32_t kMaxNameBytes = 255;

fuse_attr FixedAttributes(uint64_t node_id, mode_t mode, uid_t uid, gid_t gid) {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  fuse_attr attributes = {};
  attributes.ino = node_id;
  attributes.mode = mode;
  attributes.nlink = S_ISDIR(mode) ? 2 : 1;
  attributes.uid = uid;
  attributes.gid = gid;
  attributes.blksize = kBlockBytes;
  const auto seconds = static_cast<uint64_t>(now.tv_sec);
  const auto nanoseconds = static_cast<uint32_t>(now.tv_nsec);
  attributes.atime = attributes.mtime = attributes.ctime = seconds;
  attributes.atimensec = attributes.mtimensec = attributes.ctimensec =
      nanoseconds;
  return attributes;
}

fuse_kstatfs EmptyFileSystem() {
  fuse_kstatfs out = {};
  out.bsize = out.frsize = kBlockBytes;
  out.namelen = kMaxNameBytes;
  return out;
}

// Appends directory entries to a payload while there is room.
class EntryWriter {
 public:
  EntryWriter(char* to, size_t capacity) : to_(to), capacity_(capacity) {}

  // `cookie`: where a later READDIR goes on after this entry.
  bool Add(absl::string_view name, uint64_t ino, uint32_t type,
           uint64_t cookie) {
    const size_t bytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name.size());
    if (bytes > capacity_ - used_) return false;
    fuse_dirent entry = {};
    entry.ino = ino;
    entry.off = cookie;
    entry.namelen = static_cast<uint32_t>(name.size());
    entry.type = type;
    std::memset(to_ + used_, 0, bytes);
    std::memcpy(to_ + used_, &entry, FUSE_NAME_OFFSET);
    std::memcpy(to_ + used_ + FUSE_NAME_OFFSET, name.data(), name.size());
    used_ += bytes;
    return true;
  }
  uint32_t used() const { return static_cast<uint32_t>(used_); }

 private:
  char* const to_;
  const size_t capacity_;
  size_t used_ = 0;
};

}  // namespace

Folder::Folder(mode_t mode, uid_t uid, gid_t gid)
    : Inode(kRootId),
      attributes_(FixedAttributes(kRootId, S_IFDIR | mode, uid, gid)) {}

void Folder::Add(std::string name, Inode* inode) {
  BGFS_CHECK(entries_.empty() ||
             entries_.back().inode->node_id() < inode->node_id());
  entries_.push_back({std::move(name), inode});
}

void Folder::Remove(absl::string_view name) {
  entries_.erase(
      std::remove_if(entries_.begin(), entries_.end(),
                     [name](const Entry& entry) { return entry.name == name; }),
      entries_.end());
}

Inode* Folder::Find(absl::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.name == name) return entry.inode;
  }
  return nullptr;
}

Task<IoResult<uint32_t>> Folder::Serve(Exchange* exchange) {
  switch (exchange->request.opcode) {
    case FUSE_LOOKUP:
      return Lookup(exchange);
    case FUSE_GETATTR:
      return PutAttributes(exchange);
    case FUSE_READDIR:
      return Answer(ReadFolder(exchange));
    case FUSE_OPENDIR:
      return Answer(exchange->Put(fuse_open_out{}));
    case FUSE_RELEASEDIR:
    case FUSE_FSYNCDIR:
      return Answer(0);
    case FUSE_STATFS:
      return PutFileSystem(exchange);
    case FUSE_IOCTL:
      return Answer(IoError(ENOTTY));
    case FUSE_READLINK:
      return Answer(IoError(EINVAL));
    case FUSE_TMPFILE:
      return Answer(IoError(EOPNOTSUPP));
    case FUSE_SETATTR:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_CREATE:
    case FUSE_SYMLINK:
    case FUSE_LINK:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
      return Answer(IoError(EPERM));
    default:
      return Answer(IoError(EISDIR));
  }
}

Task<IoResult<fuse_attr>> Folder::Attributes() { co_return attributes_; }

Task<IoResult<fuse_kstatfs>> Folder::FileSystem() {
  if (entries_.empty()) co_return EmptyFileSystem();
  co_return co_await entries_.front().inode->FileSystem();
}

Task<IoResult<uint32_t>> Folder::Lookup(Exchange* exchange) {
  Inode* inode = Find(exchange->request.name);
  if (inode == nullptr) co_return IoError(ENOENT);
  IoResult<fuse_attr> attributes = co_await inode->Attributes();
  if (!attributes.ok()) co_return attributes.status();
  fuse_entry_out out = {};
  out.nodeid = inode->node_id();
  out.entry_valid = kEndlessSeconds;
  out.attr_valid = inode->attribute_seconds();
  out.attr = *attributes;
  co_return exchange->Put(out);
}

// Cookies: 1 behind ".", 2 behind "..", node id + 1 behind an entry, so that
// they stay right while entries come and go.
IoResult<uint32_t> Folder::ReadFolder(Exchange* exchange) const {
  const fuse_read_in& in = exchange->request.args.read;
  EntryWriter writer(exchange->payload, std::min(in.size, exchange->capacity));
  if (in.offset < 1 && !writer.Add(".", kRootId, DT_DIR, 1)) {
    return writer.used();
  }
  if (in.offset < 2 && !writer.Add("..", kRootId, DT_DIR, 2)) {
    return writer.used();
  }
  for (const Entry& entry : entries_) {
    const uint64_t cookie = entry.inode->node_id() + 1;
    if (cookie <= in.offset) continue;
    if (!writer.Add(entry.name, entry.inode->node_id(), DT_REG, cookie)) break;
  }
  return writer.used();
}

Placeholder::Placeholder(uint64_t node_id, mode_t mode, uid_t uid, gid_t gid)
    : Inode(node_id),
      attributes_(FixedAttributes(node_id, S_IFREG | mode, uid, gid)) {}

Task<IoResult<uint32_t>> Placeholder::Serve(Exchange* exchange) {
  switch (exchange->request.opcode) {
    case FUSE_GETATTR:
      return PutAttributes(exchange);
    case FUSE_STATFS:
      return PutFileSystem(exchange);
    case FUSE_OPEN: {
      fuse_open_out out = {};
      out.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH;
      return Answer(exchange->Put(out));
    }
    case FUSE_RELEASE:
      return Answer(0);
    default:
      return Answer(IoError(ENXIO));
  }
}

Task<IoResult<fuse_attr>> Placeholder::Attributes() { co_return attributes_; }

Task<IoResult<fuse_kstatfs>> Placeholder::FileSystem() {
  co_return EmptyFileSystem();
}

}  // namespace bgfs::fuse
