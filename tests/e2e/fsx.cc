// A file exerciser in the manner of fsx: seeded random reads, writes, mapped
// reads and writes, truncates, reservations, punches, zeroed ranges, copies and
// syncs on one file, by several processes at once, each checked against a model
// in memory.
//
//   bgfs_fsx FILE --seed=N [--processes=4] [--seconds=60 | --operations=N]
//            [--region=1048576] [--resizable] [--no-mmap] [--view=FILE]
//
// Each process owns a region of the file (page aligned, so that mapped writes
// touch nobody else's bytes; with --no-mmap the regions begin at odd offsets
// and share pages and sectors with their neighbours). With --resizable the last
// process owns the end of the file as well and truncates it. With --view, what
// was written to FILE is read from another file that shows the same bytes.
//
// Exit status 0: no difference was seen. 1: one was, or a system call failed;
// the last operations are printed, and the seed replays them.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int64_t kPage = 4096;

struct Settings {
  std::string file;
  std::string view;
  uint64_t seed = 1;
  int processes = 4;
  int seconds = 0;
  int64_t operations = 0;
  int64_t region = int64_t{1} << 20;
  bool resizable = false;
  bool mmap = true;
};

class Exerciser {
 public:
  Exerciser(const Settings& settings, int index)
      : settings_(settings),
        random_(settings.seed * 1000003 + static_cast<uint64_t>(index)),
        index_(index),
        begin_(index * settings.region + (settings.mmap ? 0 : index * 333)),
        owns_end_(settings.resizable && index == settings.processes - 1),
        model_(static_cast<size_t>(settings.region)) {
    size_ = settings.region;
  }

  int Run() {
    fd_ = open(settings_.file.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0) return Fail("open");
    view_fd_ = settings_.view.empty()
                   ? fd_
                   : open(settings_.view.c_str(), O_RDONLY | O_CLOEXEC);
    if (view_fd_ < 0) return Fail("open of the view");
    if (owns_end_ && ftruncate(fd_, begin_ + size_) != 0) {
      return Fail("ftruncate");
    }
    // The region's first content is whatever stands there.
    if (!ReadInto(0, size_, model_.data())) return Fail("first read");
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::seconds(settings_.seconds);
    for (int64_t i = 0; settings_.operations == 0 || i < settings_.operations;
         ++i) {
      if (settings_.operations == 0 && std::chrono::steady_clock::now() > end) {
        break;
      }
      if (!Step()) return 1;
    }
    if (!CheckAll()) return 1;
    close(fd_);
    return 0;
  }

 private:
  int64_t Uniform(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  // A range inside the current size; small ones more often than large ones.
  bool Pick(int64_t* offset, int64_t* bytes) {
    if (size_ == 0) return false;
    const int64_t largest =
        Uniform(0, 3) == 0 ? size_ : std::min<int64_t>(size_, 3 * kPage);
    *bytes = Uniform(1, largest);
    *offset = Uniform(0, size_ - *bytes);
    if (Uniform(0, 3) == 0) *offset -= *offset % kPage;
    return true;
  }

  bool Step() {
    switch (Uniform(0, settings_.mmap ? 11 : 9)) {
      case 0:
      case 1:
        return Read();
      case 2:
      case 3:
        return Write();
      case 4:
        return Punch(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch");
      case 5:
        return Punch(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero");
      case 6:
        return Copy();
      case 7:
        return Sync();
      case 8:
        return owns_end_ ? Truncate() : Write();
      case 9:
        return owns_end_ && Uniform(0, 1) == 0 ? Append() : CheckSize();
      case 10:
        return MappedRead();
      default:
        return MappedWrite();
    }
  }

  bool Read() {
    int64_t offset = 0;
    int64_t bytes = 0;
    if (!Pick(&offset, &bytes)) return true;
    Log("read %lld +%lld", offset, bytes);
    return CheckRange(offset, bytes);
  }

  bool CheckAll() { return size_ == 0 || CheckRange(0, size_); }

  bool CheckRange(int64_t offset, int64_t bytes) {
    std::vector<char> got(static_cast<size_t>(bytes));
    if (!ReadInto(offset, bytes, got.data())) return Failed("read");
    return Compare(offset, got.data(), bytes);
  }

  bool Compare(int64_t offset, const char* got, int64_t bytes) {
    const char* want = model_.data() + offset;
    for (int64_t i = 0; i < bytes; ++i) {
      if (got[i] == want[i]) continue;
      const int64_t at = begin_ + offset + i;
      std::fprintf(stderr,
                   "fsx: process %d: at file offset %" PRId64
                   ": read %02x, should be %02x\n",
                   index_, at, got[i] & 0xff, want[i] & 0xff);
      PrintLog();
      return false;
    }
    return true;
  }

  bool ReadInto(int64_t offset, int64_t bytes, char* to) {
    for (int64_t done = 0; done < bytes;) {
      const ssize_t count =
          pread(view_fd_, to + done, static_cast<size_t>(bytes - done),
                begin_ + offset + done);
      if (count <= 0) return false;
      done += count;
    }
    return true;
  }

  bool WriteFrom(int64_t offset, int64_t bytes) {
    for (int64_t done = 0; done < bytes;) {
      const ssize_t count =
          pwrite(fd_, model_.data() + offset + done,
                 static_cast<size_t>(bytes - done), begin_ + offset + done);
      if (count <= 0) return false;
      done += count;
    }
    return true;
  }

  void FillModel(int64_t offset, int64_t bytes) {
    const uint64_t stamp = random_();
    for (int64_t i = 0; i < bytes; ++i) {
      model_[static_cast<size_t>(offset + i)] = static_cast<char>(
          (stamp >> (8 * (i % 8))) + static_cast<uint64_t>(i / 8));
    }
  }

  bool Write() {
    int64_t offset = 0;
    int64_t bytes = 0;
    if (!Pick(&offset, &bytes)) return true;
    Log("write %lld +%lld", offset, bytes);
    FillModel(offset, bytes);
    return WriteFrom(offset, bytes) || Failed("write");
  }

  // Writes past the end, sometimes beyond a gap.
  bool Append() {
    const int64_t gap = Uniform(0, 1) == 0 ? 0 : Uniform(1, 3 * kPage);
    const int64_t bytes = Uniform(1, 2 * kPage);
    const int64_t offset = size_ + gap;
    if (offset + bytes > 2 * settings_.region) return Truncate();
    Log("append %lld +%lld", offset, bytes);
    Resize(offset + bytes);
    FillModel(offset, bytes);
    return WriteFrom(offset, bytes) || Failed("append");
  }

  void Resize(int64_t size) {
    model_.resize(static_cast<size_t>(size), 0);
    size_ = size;
  }

  bool Truncate() {
    const int64_t size = Uniform(0, 2 * settings_.region);
    Log("truncate %lld -> %lld", size_, size);
    Resize(size);
    return ftruncate(fd_, begin_ + size) == 0 || Failed("ftruncate");
  }

  bool CheckSize() {
    if (!owns_end_) return Read();
    struct stat info{};
    if (fstat(fd_, &info) != 0) return Failed("fstat");
    if (info.st_size == begin_ + size_) return true;
    const int64_t size = info.st_size;
    const int64_t wanted = begin_ + size_;
    std::fprintf(
        stderr, "fsx: process %d: size is %" PRId64 ", should be %" PRId64 "\n",
        index_, size, wanted);
    PrintLog();
    return false;
  }

  bool Punch(int mode, const char* name) {
    int64_t offset = 0;
    int64_t bytes = 0;
    if (!Pick(&offset, &bytes)) return true;
    Log(name, offset, bytes);
    std::fill_n(model_.begin() + offset, bytes, 0);
    return fallocate(fd_, mode, begin_ + offset, bytes) == 0 || Failed(name);
  }

  bool Copy() {
    int64_t from = 0;
    int64_t bytes = 0;
    if (!Pick(&from, &bytes)) return true;
    const int64_t to = Uniform(0, size_ - bytes);
    if (std::abs(from - to) < bytes) return true;  // EINVAL by definition
    Log("copy %lld +%lld", from, bytes);
    std::copy_n(model_.begin() + from, bytes, model_.begin() + to);
    off_t in = begin_ + from;
    off_t out = begin_ + to;
    for (int64_t left = bytes; left > 0;) {
      const ssize_t count =
          copy_file_range(fd_, &in, fd_, &out, static_cast<size_t>(left), 0);
      if (count <= 0) return Failed("copy_file_range");
      left -= count;
    }
    return true;
  }

  bool Sync() {
    Log("fsync", 0, 0);
    return fdatasync(fd_) == 0 || Failed("fdatasync");
  }

  char* Map(int64_t offset, int64_t bytes, int protection, int64_t* skip,
            size_t* length) {
    *skip = (begin_ + offset) % kPage;
    *length = static_cast<size_t>(bytes + *skip);
    void* map = mmap(nullptr, *length, protection, MAP_SHARED, fd_,
                     begin_ + offset - *skip);
    return map == MAP_FAILED ? nullptr : static_cast<char*>(map);
  }

  bool MappedRead() {
    int64_t offset = 0;
    int64_t bytes = 0;
    if (!Pick(&offset, &bytes)) return true;
    Log("mapped read %lld +%lld", offset, bytes);
    int64_t skip = 0;
    size_t length = 0;
    char* map = Map(offset, bytes, PROT_READ, &skip, &length);
    if (map == nullptr) return Failed("mmap");
    const bool same = Compare(offset, map + skip, bytes);
    munmap(map, length);
    return same;
  }

  bool MappedWrite() {
    int64_t offset = 0;
    int64_t bytes = 0;
    if (!Pick(&offset, &bytes)) return true;
    Log("mapped write %lld +%lld", offset, bytes);
    int64_t skip = 0;
    size_t length = 0;
    char* map = Map(offset, bytes, PROT_READ | PROT_WRITE, &skip, &length);
    if (map == nullptr) return Failed("mmap");
    FillModel(offset, bytes);
    std::memcpy(map + skip, model_.data() + offset, static_cast<size_t>(bytes));
    const bool synced = msync(map, length, MS_SYNC) == 0;
    munmap(map, length);
    return synced || Failed("msync");
  }

  void Log(const char* format, int64_t a, int64_t b) {
    char line[128];
    std::string text = format;
    if (text.find('%') == std::string::npos) text += " %lld +%lld";
    std::snprintf(line, sizeof line, text.c_str(), static_cast<long long>(a),
                  static_cast<long long>(b));
    log_.emplace_back(line);
    if (log_.size() > 40) log_.pop_front();
  }

  void PrintLog() {
    std::fprintf(stderr, "fsx: seed %llu, process %d, region at %lld:\n",
                 static_cast<unsigned long long>(settings_.seed), index_,
                 static_cast<long long>(begin_));
    for (const std::string& line : log_) {
      std::fprintf(stderr, "  %s\n", line.c_str());
    }
  }

  bool Failed(const char* what) {
    Fail(what);
    return false;
  }

  int Fail(const char* what) {
    std::fprintf(stderr, "fsx: process %d: %s: %s\n", index_, what,
                 std::strerror(errno));
    PrintLog();
    return 1;
  }

  const Settings& settings_;
  std::mt19937_64 random_;
  const int index_;
  const int64_t begin_;
  const bool owns_end_;
  std::vector<char> model_;
  int64_t size_ = 0;
  int fd_ = -1;
  int view_fd_ = -1;  // read from
  std::deque<std::string> log_;
};

bool Number(const char* argument, const char* name, int64_t* value) {
  const size_t length = std::strlen(name);
  if (std::strncmp(argument, name, length) != 0) return false;
  *value = std::strtoll(argument + length, nullptr, 10);
  return true;
}

bool Parse(int argc, char** argv, Settings* settings) {
  for (int i = 1; i < argc; ++i) {
    int64_t value = 0;
    const std::string argument = argv[i];
    if (Number(argv[i], "--seed=", &value)) {
      settings->seed = static_cast<uint64_t>(value);
    } else if (Number(argv[i], "--processes=", &value)) {
      settings->processes = static_cast<int>(value);
    } else if (Number(argv[i], "--seconds=", &value)) {
      settings->seconds = static_cast<int>(value);
    } else if (Number(argv[i], "--operations=", &value)) {
      settings->operations = value;
    } else if (Number(argv[i], "--region=", &value)) {
      settings->region = value;
    } else if (argument.rfind("--view=", 0) == 0) {
      settings->view = argument.substr(std::strlen("--view="));
    } else if (argument == "--resizable") {
      settings->resizable = true;
    } else if (argument == "--no-mmap") {
      settings->mmap = false;
    } else if (settings->file.empty() && argument[0] != '-') {
      settings->file = argument;
    } else {
      return false;
    }
  }
  return !settings->file.empty() &&
         (settings->seconds > 0 || settings->operations > 0);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  if (!Parse(argc, argv, &settings)) {
    std::fprintf(stderr,
                 "usage: bgfs_fsx FILE --seed=N (--seconds=N | "
                 "--operations=N) [--processes=N] [--region=BYTES] "
                 "[--resizable] [--no-mmap] [--view=FILE]\n");
    return 2;
  }
  std::printf("fsx: seed %llu\n",
              static_cast<unsigned long long>(settings.seed));
  std::fflush(stdout);
  std::vector<pid_t> children;
  for (int i = 0; i < settings.processes; ++i) {
    const pid_t pid = fork();
    if (pid == 0) _exit(Exerciser(settings, i).Run());
    if (pid < 0) return 1;
    children.push_back(pid);
  }
  int outcome = 0;
  for (const pid_t pid : children) {
    int status = 0;
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) outcome = 1;
  }
  return outcome;
}
