// Who holds open-file-description locks on a file: the kernel names no owner
// for them, but each holder's /proc/PID/fdinfo lists them by device and inode.

#ifndef BGFS_GRAPH_ASYNC_LOCK_HOLDERS_H_
#define BGFS_GRAPH_ASYNC_LOCK_HOLDERS_H_

#include <string>

namespace bgfs {

// "qemu-nbd (pid 41), fio (pid 7)": who holds locks on the file open at `fd`,
// without this process; empty when nobody is found or may be seen. Reads all of
// /proc, and touches no file system but that: for error messages only.
std::string DescribeHoldersOfLocks(int fd);

}  // namespace bgfs

#endif  // BGFS_GRAPH_ASYNC_LOCK_HOLDERS_H_
