// Image locks: with QEMU's own tools, each way, and in simulation where a
// program must do what QEMU's do not.

#include "drivers/image_lock.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Exit status and output of a command.
std::pair<int, std::string> RunTool(const std::string& command) {
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  std::string output;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
    output.append(buffer, n);
  }
  return {pclose(pipe), output};
}

// One of QEMU's servers, with the image open for writing.
class QemuServer {
 public:
  // `command` puts itself in the background and writes `pid_file`.
  QemuServer(const std::string& command, const std::string& pid_file) {
    const auto [status, output] = RunTool(command);
    EXPECT_EQ(status, 0) << output;
    int pid = 0;
    EXPECT_TRUE(absl::SimpleAtoi(ReadHostFile(pid_file), &pid));
    pid_ = pid;
  }
  ~QemuServer() {
    if (pid_ <= 0) return;
    kill(pid_, SIGTERM);
    while (!Ended()) usleep(1000);
  }
  int pid() const { return pid_; }

 private:
  // It is no child of ours, and whose child it is may be slow to bury it.
  bool Ended() const {
    const std::string stat =
        ReadHostFile(absl::StrCat("/proc/", pid_, "/stat"));
    return stat.empty() || absl::StrContains(stat, ") Z ");
  }

  int pid_ = 0;
};

class QemuLockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    raw_ = folder_.Write("disk.img", std::string(1 << 20, 'a'));
    qcow2_ = folder_ / "disk.qcow2";
    ASSERT_EQ(RunTool("qemu-img create -q -f qcow2 " + qcow2_ + " 1M").first,
              0);
  }
  std::string NbdCommand(const std::string& format, const std::string& path) {
    return absl::StrCat("qemu-nbd --fork --persistent -f ", format, " -k ",
                        folder_ / "socket", " --pid-file=", folder_ / "pid",
                        " ", path, " < /dev/null > ", folder_ / "log");
  }
  std::string StorageDaemonCommand(const std::string& path) {
    return absl::StrCat(
        "qemu-storage-daemon --daemonize --pidfile ", folder_ / "pid",
        " --blockdev driver=file,node-name=f,filename=", path,
        " --nbd-server addr.type=unix,addr.path=", folder_ / "socket",
        " --export type=nbd,id=e,node-name=f,writable=on < /dev/null > ",
        folder_ / "log");
  }
  static std::string Raw(const std::string& path, const std::string& more) {
    return absl::StrCat(more, " raw { file { filename: \"", path, "\" } }");
  }
  // What opening and using the node says; empty if it works.
  std::string Use(const std::string& text, Permissions used,
                  Permissions shared = kAllPermissions) {
    const auto node = graph_.Open(text);
    if (!node.ok()) return std::string(node.status().message());
    const auto disk = graph_.Attach(*node, used, shared);
    return std::string(disk.status().message());
  }

  TempFolder folder_;
  std::string raw_;
  std::string qcow2_;
  TestGraph graph_;
};

TEST_F(QemuLockTest, WeRespectAWriter) {
  const std::string image =
      absl::StrCat("qcow2 { file { filename: \"", qcow2_, "\" } }");
  {
    QemuServer server(NbdCommand("qcow2", qcow2_), folder_ / "pid");
    const std::string error = Use(image, kConsistentRead);
    EXPECT_THAT(error, AllOf(HasSubstr(absl::StrCat("\"", qcow2_,
                                                    "\" is in use by qemu-nbd "
                                                    "(pid ",
                                                    server.pid(), ")")),
                             HasSubstr("which uses write"),
                             HasSubstr("force_share: true")));
    EXPECT_THAT(graph_.graph().nodes(), IsEmpty());
    EXPECT_EQ(Use("force_share: true " + image, kConsistentRead), "");
  }
  EXPECT_EQ(Use(image, kConsistentRead), "");
}

TEST_F(QemuLockTest, WeDoNotWriteBesideAFormat) {
  QemuServer server(NbdCommand("qcow2", qcow2_), folder_ / "pid");
  EXPECT_THAT(Use(Raw(qcow2_, "read_only: false"), kReadWrite),
              AllOf(HasSubstr("qemu-nbd"), HasSubstr("does not share write"),
                    Not(HasSubstr("force_share"))));
  EXPECT_EQ(Use(absl::StrCat("read_only: false raw { file { filename: \"",
                             qcow2_, "\" locking: OFF } }"),
                kReadWrite),
            "");
  EXPECT_THAT(
      Use(Raw(qcow2_, "read_only: false force_share: true"), kReadWrite),
      HasSubstr("force_share goes with reading only"));
}

TEST_F(QemuLockTest, WeRespectTheStorageDaemon) {
  QemuServer server(StorageDaemonCommand(raw_), folder_ / "pid");
  EXPECT_THAT(Use(Raw(raw_, ""), kConsistentRead, kConsistentRead),
              AllOf(HasSubstr("is in use by qemu-storage-da"),
                    HasSubstr(absl::StrCat("(pid ", server.pid(), ")"))));
}

TEST_F(QemuLockTest, TheyRespectAWriter) {
  const auto node = graph_.Open(Raw(qcow2_, "read_only: false"));
  ASSERT_TRUE(node.ok());
  auto disk = graph_.Attach(*node, kReadWrite, kConsistentRead);
  ASSERT_TRUE(disk.ok()) << disk.status();
  const auto reader = RunTool("qemu-img info -f qcow2 " + qcow2_);
  EXPECT_NE(reader.first, 0);
  EXPECT_THAT(reader.second, HasSubstr("Failed to get shared \"write\" lock"));
  const auto writer = RunTool("qemu-io -f raw -c 'write 0 1' " + qcow2_);
  EXPECT_NE(writer.first, 0);
  EXPECT_THAT(writer.second, HasSubstr("Failed to get \"write\" lock"));
  EXPECT_EQ(RunTool("qemu-img info -U -f qcow2 " + qcow2_).first, 0);
  disk->reset();
  EXPECT_EQ(RunTool("qemu-img info -f qcow2 " + qcow2_).first, 0);
}

TEST_F(QemuLockTest, TheyRespectAReader) {
  const std::string image =
      absl::StrCat("qcow2 { file { filename: \"", qcow2_, "\" } }");
  const std::string write =
      absl::StrCat("qemu-io -f qcow2 -c 'write 0 512' ", qcow2_);
  {
    auto disk = graph_.Disk(image, kConsistentRead);
    EXPECT_EQ(RunTool("qemu-img info " + qcow2_).first, 0);
    const auto [status, output] = RunTool(write);
    EXPECT_NE(status, 0);
    EXPECT_THAT(output, HasSubstr("Failed to get \"write\" lock"));
  }
  ASSERT_TRUE(graph_.Close().ok());
  EXPECT_EQ(RunTool(write).first, 0);
}

// --- In simulation -----------------------------------------------------------

class SimLockTest : public ::testing::Test {
 protected:
  SimLockTest() : world_(1) {
    world_.disk().Create("disk.img", "content");
    file_ = world_.Run(Open());
    other_ = world_.Run(Open());
  }
  Task<std::unique_ptr<File>> Open() {
    auto file = co_await world_.loop().Open("disk.img", {.writable = true});
    co_return *std::move(file);
  }
  ImageLock Lock(proto::Locking::Mode mode = proto::Locking::AUTO) {
    return ImageLock(
        file_.get(), "disk.img", mode,
        [this](absl::string_view line) { warnings_.emplace_back(line); });
  }
  // The bytes that are locked, as another program sees it.
  std::string Locked() {
    std::string bytes;
    for (int64_t byte = 0; byte < 300; ++byte) {
      if (*other_->WouldConflict(byte)) absl::StrAppend(&bytes, byte, " ");
    }
    return bytes;
  }

  SimWorld world_;
  std::unique_ptr<File> file_;
  std::unique_ptr<File> other_;
  std::vector<std::string> warnings_;
};

TEST_F(SimLockTest, LocksTheBytesOfRights) {
  ImageLock lock = Lock();
  EXPECT_EQ(Locked(), "");
  ASSERT_TRUE(
      lock.Prepare({kConsistentRead | kWrite, kAllPermissions & ~kResize})
          .ok());
  lock.Commit();
  EXPECT_EQ(Locked(), "100 101 203 ");
  ASSERT_TRUE(lock.Prepare({kConsistentRead | kResize, kConsistentRead}).ok());
  EXPECT_EQ(Locked(), "100 101 103 201 202 203 ");
  lock.Commit();
  EXPECT_EQ(Locked(), "100 103 201 202 203 ");
  ASSERT_TRUE(lock.Prepare({0, kAllPermissions}).ok());
  lock.Commit();
  EXPECT_EQ(Locked(), "");
}

TEST_F(SimLockTest, AbortLeavesWhatWasThere) {
  ImageLock lock = Lock();
  ASSERT_TRUE(lock.Prepare({kConsistentRead, kAllPermissions}).ok());
  lock.Commit();
  ASSERT_TRUE(lock.Prepare({kWrite, kConsistentRead}).ok());
  lock.Abort();
  EXPECT_EQ(Locked(), "100 ");
}

TEST_F(SimLockTest, ConflictLeavesWhatWasThereAndNamesTheHolder) {
  ImageLock lock = Lock();
  ASSERT_TRUE(lock.Prepare({kConsistentRead, kAllPermissions}).ok());
  lock.Commit();
  world_.disk().LockElsewhere("disk.img", 201, false, "qemu (pid 7)");
  const absl::Status status =
      lock.Prepare({kConsistentRead | kWrite, kConsistentRead});
  EXPECT_EQ(status.message(),
            "\"disk.img\" is in use by qemu (pid 7), which does not share "
            "write; stop that first");
  world_.disk().UnlockElsewhere("disk.img");
  EXPECT_EQ(Locked(), "100 ");
  world_.disk().LockElsewhere("disk.img", 103, false, "qemu (pid 7)");
  EXPECT_THAT(lock.Prepare({kConsistentRead, kConsistentRead}).message(),
              AllOf(HasSubstr("qemu (pid 7), which uses resize"),
                    HasSubstr("--force-share")));
  world_.disk().UnlockElsewhere("disk.img");
  EXPECT_EQ(Locked(), "100 ");
}

TEST_F(SimLockTest, MeetsExclusiveLocks) {
  ImageLock lock = Lock();
  world_.disk().LockElsewhere("disk.img", 100, true, "flocker (pid 9)");
  EXPECT_THAT(lock.Prepare({kConsistentRead, kConsistentRead}).message(),
              HasSubstr("locked exclusively by flocker (pid 9)"));
  world_.disk().UnlockElsewhere("disk.img");
  EXPECT_EQ(Locked(), "");
}

// A file system without such locks.
class NoLocks final : public File {
 public:
  bool Start(FileOp*) override { std::abort(); }
  Task<IoResult<FileInfo>> Stat() override { std::abort(); }
  Task<IoResult<int64_t>> SeekData(int64_t) override { std::abort(); }
  Task<IoResult<int64_t>> SeekHole(int64_t) override { std::abort(); }
  IoStatus LockShared(int64_t) override { return IoError(ENOLCK); }
  IoStatus Unlock(int64_t) override { return IoError(ENOLCK); }
  IoResult<bool> WouldConflict(int64_t) override { return IoError(ENOLCK); }
  std::string DescribeLockHolders() override { return ""; }
};

TEST(ImageLockTest, SaysWhereThereAreNoLocks) {
  NoLocks file;
  std::vector<std::string> warnings;
  const auto warn = [&warnings](absl::string_view line) {
    warnings.emplace_back(line);
  };
  ImageLock automatic(&file, "x", proto::Locking::AUTO, warn);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(automatic.Prepare({kConsistentRead, kAllPermissions}).ok());
    automatic.Commit();
  }
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("\"x\" cannot be locked (No")));
  ImageLock required(&file, "x", proto::Locking::ON, warn);
  EXPECT_THAT(required.Prepare({kConsistentRead, kAllPermissions}).message(),
              HasSubstr("drop locking: ON"));
  ImageLock off(&file, "x", proto::Locking::OFF, warn);
  EXPECT_TRUE(off.Prepare({kConsistentRead, kAllPermissions}).ok());
  EXPECT_EQ(warnings.size(), 1u);
}

}  // namespace
}  // namespace bgfs
