// Folders of a connection, and the placeholders in them.
//
// A folder is a fixed list of names that only bgfs changes: nobody can make,
// remove or rename anything in it. Names are cached by the kernel without end:
// with a finite validity it would drop a mount on one of them as soon as one
// LOOKUP answers differently.
#ifndef BGFS_FUSE_FOLDER_H_
#define BGFS_FUSE_FOLDER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "fuse/inode.h"

namespace bgfs::fuse {

class Folder final : public Inode {
 public:
  // The root. `mode`: the permission bits.
  Folder(mode_t mode, uid_t uid, gid_t gid);

  // The inode is the caller's. Names are unique, node ids ascending.
  void Add(std::string name, Inode* inode);
  void Remove(absl::string_view name);
  Inode* Find(absl::string_view name) const;

  Task<IoResult<uint32_t>> Serve(Exchange* exchange) override;
  Task<IoResult<fuse_attr>> Attributes() override;
  // That of its first entry, if there is one.
  Task<IoResult<fuse_kstatfs>> FileSystem() override;

 private:
  struct Entry {
    std::string name;
    Inode* inode;
  };

  Task<IoResult<uint32_t>> Lookup(Exchange* exchange);
  IoResult<uint32_t> ReadFolder(Exchange* exchange) const;

  fuse_attr attributes_ = {};
  std::vector<Entry> entries_;
};

// An empty file that marks a name over which something is to be mounted. It can
// be opened (fusermount3 tries) and neither read nor written: nobody mistakes
// it for the disk.
class Placeholder final : public Inode {
 public:
  Placeholder(uint64_t node_id, mode_t mode, uid_t uid, gid_t gid);

  Task<IoResult<uint32_t>> Serve(Exchange* exchange) override;
  Task<IoResult<fuse_attr>> Attributes() override;
  Task<IoResult<fuse_kstatfs>> FileSystem() override;

 private:
  fuse_attr attributes_ = {};
};

}  // namespace bgfs::fuse

#endif  // BGFS_FUSE_FOLDER_H_
