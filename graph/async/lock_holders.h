// Who holds open-file-description locks on a file: the kernel names no owner
// for them, but each holder's /proc/PID/fdinfo lists them by device and inode.

#ifndef BGFS_GRAPH_ASYNC_LOCK_HOLDERS_H_
#define BGFS_GRAPH_ASYNC_LOCK_HOLDERS_H_

#include <sys/types.h>

#include <string>

namespace bgfs {

// "qemu-nbd (pid 41), fio (pid 7)", without this process; empty when nobody is
// found or may be seen. Reads all of /proc: for error messages only.
std::string DescribeHoldersOfLocks(dev_t device, ino_t inode);

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_LOCK_HOLDERS_H_
