// A FUSE file system that shows the files of a folder and fails on demand:
//
//   bgfs_faulty_fs FOLDER MOUNTPOINT
//
// It returns when it is mounted, and ends when it is unmounted. It has one file
// more, "control". A line written to it is one fault:
//
//   read NAME FIRST END COUNT    the next COUNT reads of file NAME that touch a
//                                byte of [FIRST, END) fail with EIO
//   write NAME FIRST END COUNT   the same for writes, zeros and holes
//   fsync NAME 0 0 COUNT         the next COUNT fsyncs of it fail
//   clear                        no more faults
//
// Reading it gives the number of calls that have failed since the last "clear".
// Nothing of the files is cached by the kernel, so every call gets here.

#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr char kControl[] = "/control";

struct Fault {
  std::string call;
  std::string path;
  int64_t first = 0;
  int64_t end = 0;
  int64_t left = 0;
};

class Faults {
 public:
  // False if the line cannot be read.
  bool Add(const std::string& line) {
    std::istringstream words(line);
    Fault fault;
    words >> fault.call;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (fault.call == "clear") {
      faults_.clear();
      met_ = 0;
      return true;
    }
    std::string name;
    words >> name >> fault.first >> fault.end >> fault.left;
    if (!words) return false;
    fault.path = "/" + name;
    faults_.push_back(fault);
    return true;
  }

  bool Meets(const std::string& call, const char* path, int64_t offset,
             int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Fault& fault : faults_) {
      if (fault.left == 0 || fault.call != call || fault.path != path) continue;
      const bool touches = call == "fsync" ||
                           (offset < fault.end && fault.first < offset + bytes);
      if (!touches) continue;
      --fault.left;
      ++met_;
      return true;
    }
    return false;
  }

  std::string Met() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::to_string(met_) + "\n";
  }

 private:
  std::mutex mutex_;
  std::vector<Fault> faults_;
  int64_t met_ = 0;
};

std::string folder;
Faults faults;

bool IsControl(const char* path) { return std::strcmp(path, kControl) == 0; }

std::string Behind(const char* path) { return folder + path; }

int Result(int64_t result) {
  return result < 0 ? -errno : static_cast<int>(result);
}

int Fd(const fuse_file_info* info) { return static_cast<int>(info->fh); }

void* Init(fuse_conn_info*, fuse_config* config) {
  config->attr_timeout = 0;
  config->entry_timeout = 0;
  return nullptr;
}

int GetAttributes(const char* path, struct stat* info, fuse_file_info*) {
  if (!IsControl(path)) return Result(lstat(Behind(path).c_str(), info));
  *info = {};
  info->st_mode = S_IFREG | 0600;
  info->st_nlink = 1;
  return 0;
}

int ReadFolder(const char*, void* buffer, fuse_fill_dir_t fill, off_t,
               fuse_file_info*, fuse_readdir_flags) {
  DIR* entries = opendir(folder.c_str());
  if (entries == nullptr) return -errno;
  while (const dirent* entry = readdir(entries)) {
    fill(buffer, entry->d_name, nullptr, 0, fuse_fill_dir_flags{});
  }
  closedir(entries);
  return 0;
}

int Open(const char* path, fuse_file_info* info) {
  info->direct_io = 1;
  if (IsControl(path)) return 0;
  // How it is written is the kernel's matter, and the caller's.
  const int fd =
      open(Behind(path).c_str(), (info->flags & O_ACCMODE) | O_CLOEXEC);
  if (fd < 0) return -errno;
  info->fh = static_cast<uint64_t>(fd);
  return 0;
}

int Release(const char* path, fuse_file_info* info) {
  return IsControl(path) ? 0 : Result(close(Fd(info)));
}

int Read(const char* path, char* buffer, size_t bytes, off_t offset,
         fuse_file_info* info) {
  if (IsControl(path)) {
    const std::string text = faults.Met();
    if (offset >= static_cast<off_t>(text.size())) return 0;
    return static_cast<int>(
        text.copy(buffer, bytes, static_cast<size_t>(offset)));
  }
  const auto length = static_cast<int64_t>(bytes);
  if (faults.Meets("read", path, offset, length)) return -EIO;
  return Result(pread(Fd(info), buffer, bytes, offset));
}

int Write(const char* path, const char* buffer, size_t bytes, off_t offset,
          fuse_file_info* info) {
  if (IsControl(path)) {
    const bool added = faults.Add(std::string(buffer, bytes));
    return added ? static_cast<int>(bytes) : -EINVAL;
  }
  const auto length = static_cast<int64_t>(bytes);
  if (faults.Meets("write", path, offset, length)) return -EIO;
  return Result(pwrite(Fd(info), buffer, bytes, offset));
}

int Allocate(const char* path, int mode, off_t offset, off_t bytes,
             fuse_file_info* info) {
  if (faults.Meets("write", path, offset, bytes)) return -EIO;
  return Result(fallocate(Fd(info), mode, offset, bytes));
}

int Truncate(const char* path, off_t bytes, fuse_file_info*) {
  if (IsControl(path)) return 0;
  return Result(truncate(Behind(path).c_str(), bytes));
}

int Sync(const char* path, int, fuse_file_info* info) {
  if (IsControl(path)) return 0;
  if (faults.Meets("fsync", path, 0, 0)) return -EIO;
  return Result(fdatasync(Fd(info)));
}

off_t Seek(const char*, off_t offset, int whence, fuse_file_info* info) {
  const off_t found = lseek(Fd(info), offset, whence);
  return found < 0 ? -errno : found;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bgfs_faulty_fs FOLDER MOUNTPOINT\n");
    return 2;
  }
  char* const absolute = realpath(argv[1], nullptr);
  if (absolute == nullptr) {
    std::perror(argv[1]);
    return 1;
  }
  folder = absolute;
  std::free(absolute);
  fuse_operations operations{};
  operations.init = Init;
  operations.getattr = GetAttributes;
  operations.readdir = ReadFolder;
  operations.open = Open;
  operations.release = Release;
  operations.read = Read;
  operations.write = Write;
  operations.fallocate = Allocate;
  operations.truncate = Truncate;
  operations.fsync = Sync;
  operations.lseek = Seek;
  char* arguments[] = {argv[0], argv[2], nullptr};
  return fuse_main(2, arguments, &operations, nullptr);
}
