// bgfs_sim: histories of images (image_history.h) over seeds, for as long as
// one likes, a process for each CPU.
//
//   bgfs_sim [--seed N] [--histories N] [--cuts N] [--minutes M]
//            [--kind mixed|plain|errors|cuts|kills] [--jobs N] [--qemu N]
//            [--keep-going] [--trace FOLDER]
//
// Seeds follow each other from the first one on. It ends when so many histories
// have run, so much power was cut or so much time has passed; without any of
// these, never. Every history is of the kind that was asked for; with --qemu
// every Nth lets qemu-img judge as well. On failure it prints what is wrong and
// the line that does it again, and ends with status 1. With --trace it tells of
// all that happens, and leaves the image after each life in the folder.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/drivers/qcow2/image_history.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = ImageHistory::Kind;

constexpr size_t kMaxJobs = 64;

struct KindName {
  const char* name;
  Kind kind;
};
constexpr KindName kKinds[] = {{"mixed", Kind::kMixed},
                               {"plain", Kind::kPlain},
                               {"errors", Kind::kErrors},
                               {"cuts", Kind::kPowerCut},
                               {"kills", Kind::kKill}};

struct Options {
  uint64_t seed = 1;
  int64_t histories = 0;  // 0: no end
  int64_t cuts = 0;
  int64_t minutes = 0;
  int64_t jobs = sysconf(_SC_NPROCESSORS_ONLN);
  int64_t qemu = 0;
  std::string trace;
  bool keep_going = false;
  KindName kind = kKinds[0];
};

// What the processes share.
struct Shared {
  std::atomic<bool> stop{false};
  std::atomic<int64_t> next{0};  // histories that have begun
  std::atomic<int64_t> histories{0};
  std::atomic<int64_t> failures{0};
  std::atomic<int64_t> lives{0};
  std::atomic<int64_t> cuts{0};
  std::atomic<int64_t> kills{0};
  std::atomic<int64_t> requests{0};
  std::atomic<int64_t> file_ops{0};
  std::array<std::atomic<uint64_t>, kMaxJobs> seeds{};  // now, by process
};

void PrintReplay(const Options& options, uint64_t seed) {
  std::printf("replay: scripts/sim --seed %llu --histories 1 --kind %s\n",
              static_cast<unsigned long long>(seed), options.kind.name);
  std::fflush(stdout);
}

void RunOne(const Options& options, Shared* shared, uint64_t seed) {
  ImageHistory history(seed, options.kind.kind);
  std::unique_ptr<TempFolder> folder;
  if (options.qemu > 0 && seed % static_cast<uint64_t>(options.qemu) == 0) {
    folder = std::make_unique<TempFolder>();
    history.AskQemu(folder->path());
  }
  if (!options.trace.empty()) history.Trace(options.trace);
  const std::string wrong = history.Run();
  const ImageHistory::Totals& totals = history.totals();
  ++shared->histories;
  shared->lives += totals.lives;
  shared->cuts += totals.cuts;
  shared->kills += totals.kills;
  shared->requests += totals.requests;
  shared->file_ops += totals.file_ops;
  if (options.cuts > 0 && shared->cuts >= options.cuts) shared->stop = true;
  if (wrong.empty()) return;
  ++shared->failures;
  if (!options.keep_going) shared->stop = true;
  std::printf("FAILED: %s\n", wrong.c_str());
  PrintReplay(options, seed);
}

void RunProcess(const Options& options, Shared* shared, size_t job) {
  while (!shared->stop) {
    const int64_t number = shared->next++;
    if (options.histories > 0 && number >= options.histories) return;
    const uint64_t seed = options.seed + static_cast<uint64_t>(number);
    shared->seeds[job] = seed;
    RunOne(options, shared, seed);
  }
}

void PrintTotals(const Options& options, const Shared& shared, double seconds) {
  const int64_t histories = shared.histories;
  std::printf(
      "%lld histories (%.0f/s), %lld lives, %lld power cuts, %lld kills, %lld "
      "requests, %lld file operations, seeds %llu..%llu, %lld failed\n",
      static_cast<long long>(histories),
      seconds > 0 ? static_cast<double>(histories) / seconds : 0.0,
      static_cast<long long>(shared.lives), static_cast<long long>(shared.cuts),
      static_cast<long long>(shared.kills),
      static_cast<long long>(shared.requests),
      static_cast<long long>(shared.file_ops),
      static_cast<unsigned long long>(options.seed),
      static_cast<unsigned long long>(options.seed) +
          static_cast<unsigned long long>(histories > 0 ? histories - 1 : 0),
      static_cast<long long>(shared.failures));
  std::fflush(stdout);
}

void StartProcess(const Options& options, Shared* shared, size_t job,
                  std::vector<pid_t>* processes) {
  const pid_t pid = fork();
  if (pid < 0) std::abort();
  if (pid == 0) {
    RunProcess(options, shared, job);
    std::exit(0);
  }
  processes->resize(std::max(processes->size(), job + 1));
  (*processes)[job] = pid;
}

// Of a process that has ended: whether it may, and what it did if not.
bool EndedWell(const Options& options, Shared* shared, size_t job, int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  ++shared->failures;
  std::printf("FAILED: a process ended with status %d\n", status);
  PrintReplay(options, shared->seeds[job]);
  if (!options.keep_going) shared->stop = true;
  return false;
}

int Run(const Options& options) {
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  auto* shared = new (memory) Shared;
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  const Clock::time_point start = Clock::now();
  const auto elapsed = [start] {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  std::vector<pid_t> processes;
  for (size_t job = 0; job < static_cast<size_t>(options.jobs); ++job) {
    StartProcess(options, shared, job, &processes);
  }
  for (int64_t running = options.jobs; running > 0;) {
    const timespec ten_seconds = {10, 0};
    const bool quiet = sigtimedwait(&child, nullptr, &ten_seconds) < 0;
    if (options.minutes > 0 &&
        elapsed() >= 60 * static_cast<double>(options.minutes)) {
      shared->stop = true;
    }
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0; --running) {
      const auto job = static_cast<size_t>(
          std::find(processes.begin(), processes.end(), pid) -
          processes.begin());
      if (!EndedWell(options, shared, job, status) && !shared->stop) {
        StartProcess(options, shared, job, &processes);
        ++running;
      }
    }
    if (quiet && running > 0) PrintTotals(options, *shared, elapsed());
  }
  PrintTotals(options, *shared, elapsed());
  return shared->failures > 0 ? 1 : 0;
}

bool ParseKind(absl::string_view name, Options* options) {
  for (const KindName& kind : kKinds) {
    if (name != kind.name) continue;
    options->kind = kind;
    return true;
  }
  return false;
}

bool Parse(const std::vector<std::string>& arguments, Options* options) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name == "--keep-going") {
      options->keep_going = true;
      continue;
    }
    if (++i == arguments.size()) return false;
    const std::string& value = arguments[i];
    const bool known =
        name == "--seed"        ? absl::SimpleAtoi(value, &options->seed)
        : name == "--histories" ? absl::SimpleAtoi(value, &options->histories)
        : name == "--cuts"      ? absl::SimpleAtoi(value, &options->cuts)
        : name == "--minutes"   ? absl::SimpleAtoi(value, &options->minutes)
        : name == "--jobs"      ? absl::SimpleAtoi(value, &options->jobs)
        : name == "--qemu"      ? absl::SimpleAtoi(value, &options->qemu)
        : name == "--kind"      ? ParseKind(value, options)
        : name == "--trace"     ? !(options->trace = value).empty()
                                : false;
    if (!known) return false;
  }
  return options->jobs > 0 && options->jobs <= int64_t{kMaxJobs};
}

}  // namespace
}  // namespace bgfs::qcow2

int main(int argc, char** argv) {
  bgfs::qcow2::Options options;
  if (!bgfs::qcow2::Parse({argv + 1, argv + argc}, &options)) {
    std::fputs(
        "usage: bgfs_sim [--seed N] [--histories N] [--cuts N] [--minutes M]\n"
        "                [--kind mixed|plain|errors|cuts|kills] [--jobs N]\n"
        "                [--qemu N] [--keep-going] [--trace FOLDER]\n",
        stderr);
    return 2;
  }
  return bgfs::qcow2::Run(options);
}
