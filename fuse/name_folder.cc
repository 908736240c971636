#include "fuse/name_folder.h"

#include "fuse/dev_transport.h"
#include "graph/async/check.h"

namespace bgfs::fuse {

NameFolder::NameFolder(Loop* loop, Device device, Options options)
    : options_(options),
      folder_(options.folder_mode, options.uid, options.gid),
      connection_(std::make_unique<DevTransport>(loop, std::move(device)),
                  KernelMask()) {
  connection_.AddInode(&folder_);
}

void NameFolder::Add(const std::string& name) {
  std::unique_ptr<Placeholder>& placeholder = placeholders_[name];
  BGFS_CHECK(placeholder == nullptr);
  placeholder = std::make_unique<Placeholder>(
      next_id_++, options_.placeholder_mode, options_.uid, options_.gid);
  connection_.AddInode(placeholder.get());
  folder_.Add(name, placeholder.get());
}

Task<void> NameFolder::Remove(std::string name) {
  const auto it = placeholders_.find(name);
  if (it == placeholders_.end()) co_return;
  const std::unique_ptr<Placeholder> placeholder = std::move(it->second);
  placeholders_.erase(it);
  folder_.Remove(name);
  const IoStatus told =
      co_await connection_.transport().InvalidateEntry(kRootId, name);
  told.Ignore();  // ENOENT: the kernel did not know it
  co_await connection_.in_flight().WaitIdle();
  connection_.RemoveInode(placeholder.get());
}

}  // namespace bgfs::fuse
