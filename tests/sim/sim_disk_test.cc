#include "tests/sim/sim_disk.h"

#include <linux/falloc.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph/async/buffer.h"
#include "graph/async/sync.h"
#include "gtest/gtest.h"
#include "tests/sim/sim_world.h"

namespace bgfs {
namespace {

using Kind = FileOp::Kind;
constexpr int64_t kBlock = SimImage::kBlock;
constexpr char kPath[] = "disk.img";

// No chance but that of order and time.
void MakeCalm(SimDisk* disk) {
  disk->options().at_once = 0;
  disk->options().short_transfer = 0;
  disk->options().interrupted = 0;
  disk->options().in_pages = 0;
}

Task<std::unique_ptr<File>> MustOpen(OpenOptions options) {
  auto file = co_await Loop::Current()->Open(kPath, options);
  EXPECT_TRUE(file.ok());
  co_return std::move(*file);
}

// A calm world with one file, open for writing.
class SimDiskTest : public testing::Test {
 protected:
  explicit SimDiskTest(uint64_t seed = 1) : world_(seed) {
    MakeCalm(&world_.disk());
  }
  void Create(absl::string_view content, bool direct = false) {
    world_.disk().Create(kPath, content);
    Open(direct);
  }
  void Open(bool direct = false) {
    file_ = world_.Run(MustOpen({.writable = true, .direct = direct}));
  }
  SimDisk& disk() { return world_.disk(); }

  SimWorld world_;
  std::unique_ptr<File> file_;
};

Task<int64_t> WriteText(File* file, int64_t offset, std::string text) {
  co_return co_await file->Write(
      offset, IoView(text.data(), static_cast<int64_t>(text.size())));
}

Task<std::string> ReadText(File* file, int64_t offset, int64_t bytes) {
  std::string text(static_cast<size_t>(bytes), '?');
  const int64_t count = co_await file->Read(offset, IoView(&text[0], bytes));
  EXPECT_GE(count, 0);
  text.resize(static_cast<size_t>(count));
  co_return text;
}

Task<int64_t> Sync(File* file) { co_return co_await file->Sync(); }
Task<int64_t> Truncate(File* file, int64_t size) {
  co_return co_await file->Truncate(size);
}
Task<int64_t> Allocate(File* file, int mode, int64_t offset, int64_t bytes) {
  co_return co_await file->Allocate(mode, offset, bytes);
}
Task<FileInfo> Stat(File* file) { co_return *co_await file->Stat(); }
Task<int> OpenError(std::string path) {
  co_return (co_await Loop::Current()->Open(path, {})).error();
}

TEST_F(SimDiskTest, ReadsAndWrites) {
  Create("0123456789");
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 8, "abcd")), 4);
  EXPECT_EQ(world_.Run(ReadText(file_.get(), 6, 100)), "67abcd");
  EXPECT_EQ(world_.Run(ReadText(file_.get(), 12, 100)), "");
  EXPECT_EQ(disk().Content(kPath), "01234567abcd");
  EXPECT_EQ(world_.Run(Truncate(file_.get(), 2)), 0);
  EXPECT_EQ(world_.Run(Truncate(file_.get(), kBlock)), 0);
  EXPECT_EQ(world_.Run(ReadText(file_.get(), 0, 4)), std::string("01\0\0", 4));
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  EXPECT_EQ(world_.Run(Allocate(file_.get(), kPunch, 0, kBlock)), 0);
  EXPECT_EQ(world_.Run(Stat(file_.get())).allocated_bytes, 0);
  EXPECT_EQ(world_.Run(Stat(file_.get())).size, kBlock);
  EXPECT_EQ(world_.Run(Allocate(file_.get(), 0, 0, 2 * kBlock)), 0);
  EXPECT_EQ(world_.Run(Stat(file_.get())).allocated_bytes, 2 * kBlock);
  EXPECT_EQ(world_.Run(Stat(file_.get())).size, 2 * kBlock);
  EXPECT_EQ(world_.Run(Allocate(file_.get(), FALLOC_FL_COLLAPSE_RANGE, 0, 1)),
            -EOPNOTSUPP);
  EXPECT_EQ(world_.Run(Sync(file_.get())), 0);
  EXPECT_EQ(world_.Run(OpenError("none")), ENOENT);
}

Task<int64_t> SeekData(File* file, int64_t offset) {
  const auto found = co_await file->SeekData(offset);
  co_return found.ok() ? *found : -found.error();
}
Task<int64_t> SeekHole(File* file, int64_t offset) {
  const auto found = co_await file->SeekHole(offset);
  co_return found.ok() ? *found : -found.error();
}

TEST_F(SimDiskTest, FindsDataAndHoles) {
  disk().CreateSparse(kPath, 4 * kBlock);
  Open();
  EXPECT_EQ(world_.Run(SeekData(file_.get(), 0)), -ENXIO);
  world_.Run(WriteText(file_.get(), kBlock, "x"));
  EXPECT_EQ(world_.Run(SeekData(file_.get(), 0)), kBlock);
  EXPECT_EQ(world_.Run(SeekHole(file_.get(), kBlock)), 2 * kBlock);
  EXPECT_EQ(world_.Run(SeekHole(file_.get(), 4 * kBlock)), -ENXIO);
}

Task<void> WriteAndLog(File* file, int64_t id, std::vector<int64_t>* log,
                       InFlight::Holder holder) {
  co_await WriteText(file, id * 10, "written");
  log->push_back(id);
}

Task<std::vector<int64_t>> WriteThree(File* file) {
  InFlight running;
  std::vector<int64_t> log;
  for (int64_t id = 0; id < 3; ++id) {
    Spawn(WriteAndLog(file, id, &log, running.Hold()));
  }
  co_await running.WaitIdle();
  co_return log;
}

TEST(SimDisk, OperationsEndInAnyOrder) {
  std::set<std::vector<int64_t>> orders;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimWorld world(seed);
    world.disk().Create(kPath, "");
    auto file = world.Run(MustOpen({.writable = true}));
    orders.insert(world.Run(WriteThree(file.get())));
  }
  EXPECT_EQ(orders.size(), 6);
}

// What the disk does unasked, with the default options.
TEST(SimDisk, TransfersAreShortOrInterrupted) {
  SimWorld world(1);
  world.disk().Create(kPath, std::string(1000, 'a'));
  auto file = world.Run(MustOpen({.writable = true}));
  std::set<std::string> seen;
  for (int i = 0; i < 500; ++i) {
    const int64_t count = world.Run(WriteText(file.get(), 0, "0123456789"));
    seen.insert(count == 10       ? "whole"
                : count == -EINTR ? "interrupted"
                : count > 0       ? "short"
                                  : "failed");
  }
  EXPECT_EQ(seen, (std::set<std::string>{"whole", "interrupted", "short"}));
}

// Changes its memory under a write.
Task<void> ChangeTooEarly(File* file, char* byte, InFlight::Holder holder) {
  co_await file->Write(0, IoView(byte, 1));
}

Task<void> WriteAndChange(File* file) {
  InFlight running;
  char byte = 'a';
  Spawn(ChangeTooEarly(file, &byte, running.Hold()));
  byte = 'b';
  co_await running.WaitIdle();
}

TEST(SimDisk, ShortWritesEndAtTheUnit) {
  std::set<int64_t> counts;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SimWorld world(seed);
    MakeCalm(&world.disk());
    world.disk().options().short_transfer = 0.9;
    world.disk().options().write_unit = 512;
    world.disk().Create(kPath, "");
    const auto file = world.Run(MustOpen({.writable = true}));
    counts.insert(
        world.Run(WriteText(file.get(), 100, std::string(1200, 'a'))));
  }
  EXPECT_EQ(counts, (std::set<int64_t>{412, 924, 1200}));
}

TEST(SimDisk, FindsMemoryReusedTooEarly) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimWorld world(seed);
    MakeCalm(&world.disk());
    world.disk().Create(kPath, "");
    auto file = world.Run(MustOpen({.writable = true}));
    world.Run(WriteAndChange(file.get()));
    seen.insert(world.disk().Content(kPath));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"a", "b"}));
}

Task<void> ReadInto(File* file, std::string* text, InFlight::Holder holder) {
  co_await file->Read(0, IoView(text->data(), std::ssize(*text)));
}

Task<void> SeeMemoryFilledAtTheEnd(File* file) {
  InFlight running;
  std::string text(2 * kBlock, '?');
  Spawn(ReadInto(file, &text, running.Hold()));
  while (running.count() > 0) {
    if (text[0] != '?') {
      EXPECT_EQ(text, std::string(2 * kBlock, 'x'));
    }
    co_await Loop::Current()->Yield();
  }
  EXPECT_EQ(text, std::string(2 * kBlock, 'x'));
}

TEST_F(SimDiskTest, ReadsFillMemoryAtTheEnd) {
  disk().options().in_pages = 1;
  Create(std::string(2 * kBlock, 'x'));
  world_.Run(SeeMemoryFilledAtTheEnd(file_.get()));
}

TEST_F(SimDiskTest, DirectFilesAskForAlignment) {
  disk().options().short_transfer = 0.5;
  Create(std::string(2048, 'x'), /*direct=*/true);
  const FileInfo info = world_.Run(Stat(file_.get()));
  EXPECT_EQ(info.request_alignment, 512);
  EXPECT_EQ(info.memory_alignment, 512);
  struct Aligned {
    static Task<int64_t> Read(File* file, int64_t offset, int64_t bytes,
                              int64_t shift) {
      AlignedBuffer buffer = AlignedBuffer::Allocate(8192);
      co_return co_await file->Read(offset, buffer.view(shift, bytes));
    }
  };
  for (int i = 0; i < 50; ++i) {
    const int64_t count = world_.Run(Aligned::Read(file_.get(), 0, 2048, 0));
    EXPECT_EQ(count % 512, 0);
    EXPECT_GT(count, 0);
  }
  EXPECT_EQ(world_.Run(Aligned::Read(file_.get(), 1, 512, 0)), -EINVAL);
  EXPECT_EQ(world_.Run(Aligned::Read(file_.get(), 0, 511, 0)), -EINVAL);
  EXPECT_EQ(world_.Run(Aligned::Read(file_.get(), 0, 512, 8)), -EINVAL);
}

TEST_F(SimDiskTest, FailsOnCommand) {
  Create(std::string(100, 'a'));
  disk().Inject({.kind = Kind::kWrite, .offset = 50, .bytes = 10, .skip = 1});
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 40, "0123456789")), 10);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 60, "0123456789")), 10);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 59, "b")), 1);  // spared
  EXPECT_EQ(world_.Run(ReadText(file_.get(), 50, 1)), "a");
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 50, "c")), -EIO);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 50, "c")), 1);  // once only
  disk().Inject({.path = kPath, .error = 0, .short_bytes = 3});
  EXPECT_EQ(world_.Run(ReadText(file_.get(), 0, 10)), "aaa");
  disk().Inject({.path = "other", .count = -1});
  EXPECT_EQ(world_.Run(Sync(file_.get())), 0);
  disk().Inject({.count = -1, .error = EDQUOT});
  EXPECT_EQ(world_.Run(Truncate(file_.get(), 5)), -EDQUOT);
  EXPECT_EQ(world_.Run(Sync(file_.get())), -EDQUOT);
  disk().ClearFaults();
  EXPECT_EQ(world_.Run(Truncate(file_.get(), 5)), 0);
}

TEST_F(SimDiskTest, RunsFull) {
  disk().options().capacity_bytes = 4 * kBlock;
  Create(std::string(kBlock, 'a'));
  EXPECT_EQ(world_.Run(WriteText(file_.get(), kBlock + 1,
                                 std::string(5 * kBlock, 'b'))),
            3 * kBlock - 1);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 4 * kBlock, "c")), -ENOSPC);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 0, "d")), 1);  // in place
  EXPECT_EQ(world_.Run(Allocate(file_.get(), 0, 0, 5 * kBlock)), -ENOSPC);
  EXPECT_EQ(world_.Run(Truncate(file_.get(), kBlock)), 0);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 4 * kBlock, "c")), 1);
  EXPECT_EQ(disk().AllocatedBytes(), 2 * kBlock);
}

TEST_F(SimDiskTest, DevicesKeepTheirSize) {
  disk().CreateDevice(kPath, 1000);
  Open();
  EXPECT_EQ(world_.Run(Stat(file_.get())).type, FileInfo::Type::kBlockDevice);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 998, "abc")), 2);
  EXPECT_EQ(world_.Run(WriteText(file_.get(), 1000, "abc")), -ENOSPC);
  EXPECT_EQ(world_.Run(Truncate(file_.get(), 2000)), -EINVAL);
  EXPECT_EQ(world_.Run(SeekData(file_.get(), 0)), -EINVAL);
  EXPECT_EQ(world_.Run(Stat(file_.get())).size, 1000);
}

Task<void> SyncInto(File* file, std::optional<int64_t>* result) {
  *result = co_await file->Sync();
}

TEST_F(SimDiskTest, HangsUntilReleased) {
  Create("");
  disk().Hang(kPath);
  std::optional<int64_t> result;
  world_.loop().Post([&] { Spawn(SyncInto(file_.get(), &result)); });
  world_.RunUntilIdle();
  EXPECT_FALSE(result.has_value());
  EXPECT_EQ(disk().in_flight(), 1);
  disk().Release(kPath);
  world_.RunUntilIdle();
  EXPECT_EQ(result, 0);
}

Task<void> ExpectLocks(File* first, File* second, SimDisk* disk) {
  EXPECT_TRUE(first->LockShared(101).ok());
  EXPECT_FALSE(*first->WouldConflict(101));
  EXPECT_TRUE(*second->WouldConflict(101));
  EXPECT_FALSE(*second->WouldConflict(102));
  EXPECT_TRUE(second->LockShared(101).ok());
  EXPECT_TRUE(first->Unlock(101).ok());
  EXPECT_FALSE(*second->WouldConflict(101));
  disk->LockElsewhere(kPath, 201, true, "qemu-nbd (pid 41)");
  EXPECT_EQ(first->LockShared(201).error(), EAGAIN);
  EXPECT_TRUE(*first->WouldConflict(201));
  EXPECT_EQ(first->DescribeLockHolders(), "qemu-nbd (pid 41)");
  disk->UnlockElsewhere(kPath);
  EXPECT_TRUE(first->LockShared(201).ok());
  co_return;
}

TEST_F(SimDiskTest, LocksBytesOfADescription) {
  Create("");
  auto second = world_.Run(MustOpen({}));
  world_.Run(ExpectLocks(file_.get(), second.get(), &disk()));
  EXPECT_TRUE(*file_->WouldConflict(101));
  second.reset();
  EXPECT_FALSE(*file_->WouldConflict(101));
}

TEST_F(SimDiskTest, CountsSyncs) {
  Create("");
  disk().Inject({.kind = Kind::kSync, .skip = 1});
  EXPECT_EQ(world_.Run(Sync(file_.get())), 0);
  EXPECT_EQ(disk().failed_syncs(), 0);
  EXPECT_EQ(world_.Run(Sync(file_.get())), -EIO);
  EXPECT_EQ(disk().syncs(kPath), 2);
  EXPECT_EQ(disk().failed_syncs(), 1);
}

TEST_F(SimDiskTest, ActsAfterSyncs) {
  Create("");
  int64_t acted_after = -1;
  disk().AfterSyncs(1, 2, [&] { acted_after = disk().syncs(kPath); });
  for (int i = 0; i < 6; ++i) EXPECT_EQ(world_.Run(Sync(file_.get())), 0);
  EXPECT_EQ(acted_after, 4);
}

TEST_F(SimDiskTest, CreateLeavesHolesWhereThereAreZeros) {
  const std::string content = std::string(3 * kBlock, '\0') + "text";
  Create(content);
  EXPECT_EQ(disk().Content(kPath), content);
  EXPECT_EQ(disk().Image(kPath).allocated_bytes(), kBlock);
}

// Writes block after block, each with its number, and syncs after every third;
// says how many were synced.
Task<int64_t> WriteBlocks(File* file) {
  int64_t synced = 0;
  for (int64_t i = 0; i < 12; ++i) {
    const std::string text(kBlock, static_cast<char>('a' + i));
    for (int64_t done = 0; done < kBlock;) {
      const int64_t count = co_await WriteText(
          file, i * kBlock + done, text.substr(static_cast<size_t>(done)));
      if (count == -EINTR) continue;
      if (count < 0) co_return synced;
      done += count;
    }
    if (i % 3 == 2) {
      if (co_await file->DataSync() != 0) co_return synced;
      synced = i + 1;
    }
  }
  co_return synced;
}

// Whether the first `blocks` blocks are all there, and what more is.
bool HasBlocks(const std::string& content, int64_t blocks) {
  for (int64_t i = 0; i < blocks * kBlock; ++i) {
    const auto at = static_cast<size_t>(i);
    if (at >= content.size()) return false;
    if (content[at] != static_cast<char>('a' + i / kBlock)) return false;
  }
  return true;
}

// For every moment: nothing synced is lost; something else is, at some.
TEST(SimDisk, PowerCutAtEveryOperation) {
  bool lost_something = false;
  bool kept_something = false;
  ForEachSeed(10, [&](uint64_t seed) {
    for (int64_t at = 0; at < 20; ++at) {
      SimWorld world(seed);
      SimDisk& disk = world.disk();
      disk.Create(kPath, "");
      auto file = world.Run(MustOpen({.writable = true}));
      disk.AfterOps(at, [&disk] { disk.PowerCut(); });
      const int64_t synced = world.Run(WriteBlocks(file.get()));
      if (!disk.dead()) return;  // it ended before
      const std::string content = disk.Content(kPath);
      EXPECT_EQ(world.Run(OpenError(kPath)), EIO);
      disk.Restart();
      EXPECT_EQ(disk.Content(kPath), content);
      EXPECT_TRUE(HasBlocks(content, synced)) << "cut at " << at;
      lost_something |= synced < 12 && !HasBlocks(content, synced + 1);
      kept_something |= HasBlocks(content, synced + 1);
      // The old process is a ghost still, the new one is not.
      EXPECT_EQ(world.Run(WriteText(file.get(), 0, "ghost")), -EIO);
      EXPECT_EQ(file->LockShared(100).error(), EIO);
      EXPECT_EQ(world.Run(OpenError(kPath)), 0);
      EXPECT_EQ(disk.Content(kPath), content);
    }
  });
  EXPECT_TRUE(lost_something);
  EXPECT_TRUE(kept_something);
}

TEST(SimDisk, AKilledProcessLeavesItsPageCache) {
  ForEachSeed(10, [&](uint64_t seed) {
    SimWorld world(seed);
    SimDisk& disk = world.disk();
    MakeCalm(&disk);
    disk.Create(kPath, "");
    auto file = world.Run(MustOpen({.writable = true}));
    EXPECT_TRUE(file->LockShared(100).ok());
    disk.LockElsewhere(kPath, 101, false, "another");
    disk.AfterOps(8, [&disk] { disk.Kill(); });
    EXPECT_EQ(world.Run(WriteBlocks(file.get())), 6);
    EXPECT_TRUE(HasBlocks(disk.Content(kPath), 6));
    disk.Restart();
    EXPECT_EQ(std::ssize(disk.Content(kPath)), 6 * kBlock);
    auto again = world.Run(MustOpen({}));
    EXPECT_FALSE(*again->WouldConflict(100));  // locks die with their process
    EXPECT_TRUE(*again->WouldConflict(101));
  });
}

Task<void> WriteInto(File* file, std::string text, int64_t* result) {
  *result = co_await WriteText(file, 0, std::move(text));
}

// What is in flight when the process dies happens, or not, or in part.
TEST(SimDisk, KillLeavesWhatIsInFlightToChance) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimWorld world(seed);
    SimDisk& disk = world.disk();
    MakeCalm(&disk);
    disk.options().in_pages = 1;
    disk.Create(kPath, std::string(2 * kBlock, '.'));
    auto file = world.Run(MustOpen({.writable = true}));
    disk.Hang(kPath);
    int64_t result = 0;
    world.loop().Post([&file, &result] {
      Spawn(WriteInto(file.get(), std::string(2 * kBlock, 'x'), &result));
    });
    world.RunUntilIdle();
    disk.Kill();
    world.RunUntilIdle();  // a ghost hangs no longer
    EXPECT_EQ(result, -EIO);
    const std::string content = disk.Content(kPath);
    seen.insert({content[0], content[2 * kBlock - 1]});
  }
  EXPECT_EQ(seen, (std::set<std::string>{"..", "x.", ".x", "xx"}));
}

TEST(SimDiskDeathTest, DestroyingAFileUnderAnOperationIsABug) {
  EXPECT_DEATH(
      {
        SimWorld world(5);
        world.disk().Create(kPath, "");
        auto file = world.Run(MustOpen({.writable = true}));
        world.disk().Hang(kPath);
        std::optional<int64_t> result;
        world.loop().Post([&] { Spawn(SyncInto(file.get(), &result)); });
        world.RunUntilIdle();
        file.reset();
      },
      "in_flight_ == 0(.|\n)*BGFS_SEED=5");
}

TEST(SimDiskDeathTest, EndingUnderAHangingOperationIsABug) {
  EXPECT_DEATH(
      {
        SimWorld world(5);
        world.disk().Create(kPath, "");
        auto file = world.Run(MustOpen({.writable = true}));
        world.disk().Hang(kPath);
        world.Run(WriteText(file.get(), 3, "x"));
      },
      "write of \"disk.img\" at 3 \\+ 1 \\(hangs\\)(.|\n)*BGFS_SEED=5");
}

}  // namespace
}  // namespace bgfs
