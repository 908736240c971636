#include "fuse/inode.h"

namespace bgfs::fuse {

Task<IoResult<uint32_t>> Inode::PutAttributes(Exchange* exchange) {
  IoResult<fuse_attr> attributes = co_await Attributes();
  if (!attributes.ok()) co_return attributes.status();
  fuse_attr_out out = {};
  out.attr_valid = attribute_seconds();
  out.attr = *attributes;
  co_return exchange->Put(out);
}

Task<IoResult<uint32_t>> Inode::PutFileSystem(Exchange* exchange) {
  IoResult<fuse_kstatfs> file_system = co_await FileSystem();
  if (!file_system.ok()) co_return file_system.status();
  co_return exchange->Put(fuse_statfs_out{*file_system});
}

Task<IoResult<uint32_t>> Answer(IoResult<uint32_t> answer) { co_return answer; }

}  // namespace bgfs::fuse
