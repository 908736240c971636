#include "tests/sim/sim_disk.h"

#include <linux/falloc.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/async/check.h"
#include "tests/sim/sim_world.h"

namespace bgfs {

using Kind = FileOp::Kind;

// One operation in flight.
struct SimOp {
  SimFile* file = nullptr;
  Completion* completion = nullptr;
  FileOp* op = nullptr;  // null: a query, which only takes time
  std::list<std::unique_ptr<SimOp>>::iterator place;
  bool ghost = false;  // its process has died
  bool begun = false;
  int error = 0;      // what it will fail with
  int64_t bytes = 0;  // what it will transfer
  // What is still to be done: (from, length) within the operation.
  std::vector<std::pair<int64_t, int64_t>> parts;
  std::string data;  // written: if captured; read: so far
  bool captured = false;
  int64_t covered = 0;  // of a sync: changes when it started

  bool transfers() const {
    return op != nullptr &&
           (op->kind == Kind::kRead || op->kind == Kind::kWrite || copies());
  }
  bool copies() const { return op != nullptr && op->kind == Kind::kCopyRange; }
  bool writes() const {
    return op != nullptr && (op->kind == Kind::kWrite || copies());
  }
  bool syncs() const {
    return op != nullptr &&
           (op->kind == Kind::kSync || op->kind == Kind::kDataSync);
  }
};

namespace {

const char* NameOf(const SimOp& op) {
  if (op.op == nullptr) return "query";
  switch (op.op->kind) {
    case Kind::kRead:
      return "read";
    case Kind::kWrite:
      return "write";
    case Kind::kSync:
      return "sync";
    case Kind::kDataSync:
      return "datasync";
    case Kind::kAllocate:
      return "allocate";
    case Kind::kTruncate:
      return "truncate";
    case Kind::kCopyRange:
      return "copy";
  }
  return "?";
}

// The change that an operation other than a read or a sync makes; nothing if
// fallocate(2) knows no such mode.
std::optional<SimChange> ChangeOf(const FileOp& op) {
  SimChange change{.offset = op.offset, .bytes = op.bytes};
  if (op.kind == Kind::kTruncate) {
    change.kind = SimChange::Kind::kResize;
    return change;
  }
  if (op.kind == Kind::kWrite || op.kind == Kind::kCopyRange) return change;
  change.keep_size = (op.mode & FALLOC_FL_KEEP_SIZE) != 0;
  switch (op.mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
      change.kind = SimChange::Kind::kAllocate;
      return change;
    case FALLOC_FL_PUNCH_HOLE:
      if (!change.keep_size) return std::nullopt;
      change.kind = SimChange::Kind::kPunch;
      return change;
    case FALLOC_FL_ZERO_RANGE:
      change.kind = SimChange::Kind::kZero;
      return change;
    default:
      return std::nullopt;
  }
}

}  // namespace

SimDisk::SimDisk(SimWorld* world) : world_(world) {}

SimDisk::~SimDisk() = default;

SimDisk::Inode* SimDisk::Add(const std::string& path) {
  auto& inode = inodes_[path];
  BGFS_CHECK(inode == nullptr);
  inode = std::make_shared<Inode>();
  inode->path = path;
  inode->number = next_inode_++;
  return inode.get();
}

SimDisk::Inode& SimDisk::Find(const std::string& path) {
  const auto it = inodes_.find(path);
  BGFS_CHECK(it != inodes_.end());
  return *it->second;
}

const SimDisk::Inode& SimDisk::Find(const std::string& path) const {
  return const_cast<SimDisk*>(this)->Find(path);
}

void SimDisk::Create(const std::string& path, absl::string_view content) {
  SimStore& store = Add(path)->store;
  store.Change({.kind = SimChange::Kind::kResize,
                .bytes = static_cast<int64_t>(content.size())});
  // As a copy that leaves holes where there are zeros.
  for (size_t at = 0; at < content.size(); at += SimImage::kBlock) {
    const absl::string_view block = content.substr(at, SimImage::kBlock);
    if (block.find_first_not_of('\0') == absl::string_view::npos) continue;
    store.Change({.offset = static_cast<int64_t>(at),
                  .bytes = static_cast<int64_t>(block.size()),
                  .data = std::string(block)});
  }
  store.Sync(store.changes());
}

void SimDisk::CreateSparse(const std::string& path, int64_t size_bytes) {
  SimStore& store = Add(path)->store;
  store.Change({.kind = SimChange::Kind::kResize, .bytes = size_bytes});
  store.Sync(store.changes());
}

void SimDisk::CreateDevice(const std::string& path, int64_t size_bytes) {
  CreateSparse(path, size_bytes);
  Find(path).device = true;
}

void SimDisk::Remove(const std::string& path) { inodes_.erase(path); }

const SimImage& SimDisk::Image(const std::string& path) const {
  return Find(path).store.cached();
}

std::string SimDisk::Content(const std::string& path) const {
  const SimImage& image = Image(path);
  return image.Read(0, image.size());
}

int64_t SimDisk::AllocatedBytes() const {
  int64_t sum = 0;
  for (const auto& [path, inode] : inodes_) {
    if (!inode->device) sum += inode->store.cached().allocated_bytes();
  }
  return sum;
}

void SimDisk::Kill() { Die(/*power_too=*/false); }
void SimDisk::PowerCut() { Die(/*power_too=*/true); }

void SimDisk::Die(bool power_too) {
  BGFS_CHECK(!dead_);
  dead_ = true;
  SimRandom& random = world_->random();
  for (const auto& op : ops_) {
    if (op->ghost) continue;
    // A read's memory belongs to nobody now.
    if (!op->transfers() || op->writes()) {
      const bool begins = op->begun || random.Chance(0.5);
      if (begins && !op->begun) Begin(op.get());
      while (begins && !op->parts.empty()) {
        if (random.Chance(0.5)) {
          DoPart(op.get());
        } else {
          op->parts.pop_back();
        }
      }
    }
    op->parts.clear();
    op->ghost = true;
    op->error = EIO;
  }
  for (const auto& [path, inode] : inodes_) {
    if (power_too) inode->store.CutPower(&random);
    std::erase_if(inode->locks, [power_too](const Lock& lock) {
      return power_too || lock.owner != nullptr;
    });
    for (SimOp* op : std::exchange(inode->parked, {})) ContinueLater(op);
  }
}

void SimDisk::Restart() {
  BGFS_CHECK(dead_);
  world_->RunUntilIdle();
  dead_ = false;
  ++incarnation_;
}

void SimDisk::AfterOps(int64_t count, absl::AnyInvocable<void()> action) {
  syncs_left_ = -1;
  action_at_ = ops_started_ + count;
  action_ = std::move(action);
}

void SimDisk::AfterSyncs(int64_t syncs, int64_t ops,
                         absl::AnyInvocable<void()> action) {
  syncs_left_ = syncs;
  action_ops_ = ops;
  action_at_ = -1;
  action_ = std::move(action);
}

void SimDisk::Hang(const std::string& path) { Find(path).hung = true; }

void SimDisk::Release(const std::string& path) {
  Inode& inode = Find(path);
  inode.hung = false;
  for (SimOp* op : std::exchange(inode.parked, {})) ContinueLater(op);
}

void SimDisk::LockElsewhere(const std::string& path, int64_t byte,
                            bool exclusive, std::string holder) {
  Find(path).locks.push_back({nullptr, byte, exclusive, std::move(holder)});
}

void SimDisk::UnlockElsewhere(const std::string& path) {
  std::erase_if(Find(path).locks,
                [](const Lock& lock) { return lock.owner == nullptr; });
}

Task<IoResult<std::unique_ptr<File>>> SimDisk::Open(SimLoop* loop,
                                                    std::string path,
                                                    OpenOptions options) {
  co_await loop->SleepUntil(loop->NowNs() + world_->RandomDelayNs());
  if (dead_) co_return IoError(EIO);
  const auto it = inodes_.find(path);
  if (it == inodes_.end()) co_return IoError(ENOENT);
  co_return std::unique_ptr<File>(new SimFile(this, loop, it->second, options));
}

std::string SimDisk::Describe(const SimOp& op) {
  std::string text =
      absl::StrCat(NameOf(op), " of \"", op.file->inode_->path, "\"");
  if (op.op != nullptr) {
    absl::StrAppend(&text, " at ", op.op->offset, " + ", op.op->bytes);
  }
  return text;
}

void SimDisk::PrintInFlight() const {
  for (const auto& op : ops_) {
    std::fprintf(stderr, "  %s%s\n", Describe(*op).c_str(),
                 op->file->inode_->hung ? " (hangs)" : "");
  }
}

SimOp* SimDisk::NewOp(SimFile* file, Completion* completion, FileOp* op) {
  BGFS_CHECK(Loop::Current() == file->loop_);
  if (ops_started_++ == action_at_) std::exchange(action_, nullptr)();
  ops_.push_back(std::make_unique<SimOp>());
  SimOp* sim = ops_.back().get();
  sim->place = std::prev(ops_.end());
  sim->file = file;
  sim->completion = completion;
  sim->op = op;
  sim->ghost = file->ghost();
  if (sim->ghost) sim->error = EIO;
  ++file->in_flight_;
  return sim;
}

void SimDisk::StartQuery(SimFile* file, Completion* completion) {
  ContinueLater(NewOp(file, completion, nullptr));
}

bool SimDisk::Start(SimFile* file, FileOp* op) {
  SimOp* sim = NewOp(file, op, op);
  if (!sim->ghost) Plan(sim);
  if (sim->syncs()) {
    ++file->inode_->syncs;
    if (syncs_left_-- == 0) action_at_ = ops_started_ + action_ops_;
  }
  if (sim->ghost || !sim->transfers() || file->options_.direct ||
      file->inode_->hung || !world_->random().Chance(options_.at_once)) {
    ContinueLater(sim);
    return false;
  }
  Begin(sim);
  while (!sim->parts.empty()) DoPart(sim);
  Finish(sim);
  return true;
}

const SimImage& SimDisk::SourceOf(const SimOp& sim) {
  return static_cast<SimFile*>(sim.op->source)->inode_->store.cached();
}

// What the kernel says to such a call, before it looks at the file: 0 or an
// errno.
int SimDisk::Refusal(const SimOp& sim) const {
  const FileOp& op = *sim.op;
  const SimFile& file = *sim.file;
  const bool truncates = op.kind == Kind::kTruncate;
  const bool changes = op.kind != Kind::kRead && !sim.syncs();
  if (changes && !file.options_.writable) return truncates ? EINVAL : EBADF;
  if (op.offset < 0 || op.bytes < 0) return EINVAL;
  if (op.bytes == 0 && op.kind == Kind::kAllocate) return EINVAL;
  if (op.bytes > std::numeric_limits<int64_t>::max() - op.offset) return EFBIG;
  if (truncates && file.inode_->device) return EINVAL;
  if (changes && !ChangeOf(op).has_value()) return EOPNOTSUPP;
  if (!sim.transfers() || !file.options_.direct) return 0;
  if (sim.copies()) return EINVAL;
  const bool aligned =
      (op.offset | op.bytes) % options_.request_alignment == 0 &&
      op.view.AlignedTo(options_.memory_alignment);
  return aligned ? 0 : EINVAL;
}

// What becomes of the operation, as far as it can be said when it starts.
void SimDisk::Plan(SimOp* sim) {
  const FileOp& op = *sim->op;
  const SimFile& file = *sim->file;
  SimRandom& random = world_->random();
  sim->covered = file.inode_->store.changes();
  sim->error = Refusal(*sim);
  if (sim->error != 0) return;
  sim->bytes = op.bytes;
  if (!TakeFault(sim) && sim->transfers()) {
    if (random.Chance(options_.interrupted)) {
      sim->error = EINTR;
      sim->bytes = 0;
    } else if (sim->bytes > 1 && random.Chance(options_.short_transfer)) {
      sim->bytes = random.Between(1, sim->bytes - 1);
    }
  }
  if (sim->writes()) EndAtUnit(sim);
  if (sim->error == 0 && file.options_.direct && sim->transfers()) {
    const int64_t unit = options_.request_alignment;
    sim->bytes = std::min(op.bytes, (sim->bytes + unit - 1) / unit * unit);
  }
  // A copy reads its source when it gets there.
  if (op.kind == Kind::kWrite && random.Chance(0.5)) {
    sim->captured = true;
    sim->data.resize(static_cast<size_t>(op.bytes));
    op.view.CopyTo(sim->data.data());
  }
}

// A write that cannot end earlier is done whole, or has failed and done
// nothing.
void SimDisk::EndAtUnit(SimOp* sim) const {
  const FileOp& op = *sim->op;
  if (sim->bytes == op.bytes || sim->bytes == 0) return;
  const int64_t end = op.offset + sim->bytes;
  const int64_t bytes = end - end % options_.write_unit - op.offset;
  sim->bytes = bytes > 0 ? bytes : sim->error != 0 ? 0 : op.bytes;
}

// True if a fault met the operation.
bool SimDisk::TakeFault(SimOp* sim) {
  const FileOp& op = *sim->op;
  const bool ranged = !sim->syncs() && op.kind != Kind::kTruncate;
  for (SimFault& fault : faults_) {
    if (fault.count == 0 ||
        (!fault.path.empty() && fault.path != sim->file->inode_->path) ||
        (fault.kind.has_value() && *fault.kind != op.kind) ||
        (ranged && (op.offset + op.bytes <= fault.offset ||
                    op.offset - fault.offset >= fault.bytes))) {
      continue;
    }
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    --fault.count;
    sim->error = fault.error;
    if (fault.error == 0) {
      sim->bytes = std::min(sim->bytes, fault.short_bytes);
    } else if (sim->writes()) {
      // It may have written something, or all.
      const int64_t done = world_->random().Below(4);
      sim->bytes = done == 0   ? sim->bytes
                   : done == 1 ? world_->random().Between(0, sim->bytes)
                               : 0;
    } else if (!sim->syncs()) {
      sim->bytes = 0;
    }
    return true;
  }
  return false;
}

void SimDisk::ContinueLater(SimOp* sim) {
  world_->After(world_->RandomDelayNs(), [this, sim] { Continue(sim); });
}

void SimDisk::Continue(SimOp* sim) {
  Inode& inode = *sim->file->inode_;
  if (!sim->ghost) {
    if (inode.hung) {
      inode.parked.push_back(sim);
      return;
    }
    if (!sim->begun) Begin(sim);
    if (!sim->parts.empty()) DoPart(sim);
    if (!sim->parts.empty()) {
      ContinueLater(sim);
      return;
    }
  }
  Finish(sim);
}

// The operation meets the size of the file and the space on the disk; its parts
// are then known.
void SimDisk::Begin(SimOp* sim) {
  sim->begun = true;
  if (sim->op == nullptr) return;
  if (!sim->transfers()) {
    if (sim->error == 0) FitCapacity(sim);
    if (sim->error == 0 || sim->syncs()) sim->parts.emplace_back(0, 0);
    return;
  }
  const Inode& inode = *sim->file->inode_;
  const int64_t left = inode.store.cached().size() - sim->op->offset;
  if (sim->copies()) {
    const int64_t source_left = SourceOf(*sim).size() - sim->op->source_offset;
    sim->bytes = std::clamp<int64_t>(source_left, 0, sim->bytes);
  }
  if (!sim->writes()) {
    sim->bytes = std::clamp<int64_t>(left, 0, sim->bytes);
    sim->data.resize(static_cast<size_t>(sim->bytes));
  } else if (inode.device && sim->bytes > 0) {
    if (left <= 0) sim->error = ENOSPC;
    sim->bytes = std::clamp<int64_t>(left, 0, sim->bytes);
  } else {
    FitCapacity(sim);
  }
  // Pages of concurrent transfers meet in any order, except that a full disk
  // asks for space and use in one step.
  SimRandom& random = world_->random();
  const bool in_pages =
      options_.capacity_bytes == std::numeric_limits<int64_t>::max() &&
      random.Chance(options_.in_pages);
  int64_t from = 0;
  while (from < sim->bytes) {
    const int64_t at = sim->op->offset + from;
    const int64_t to_page_end = SimImage::kBlock - at % SimImage::kBlock;
    int64_t here = sim->bytes - from;
    if (in_pages && sim->parts.size() < 3) {
      here = std::min(here, to_page_end + SimImage::kBlock * random.Below(4));
    }
    sim->parts.emplace_back(from, here);
    from += here;
  }
  for (size_t i = sim->parts.size(); i > 1; --i) {
    std::swap(
        sim->parts[i - 1],
        sim->parts[static_cast<size_t>(random.Below(static_cast<int64_t>(i)))]);
  }
}

void SimDisk::FitCapacity(SimOp* sim) {
  const Inode& inode = *sim->file->inode_;
  if (inode.device || sim->syncs()) return;
  SimChange change = *ChangeOf(*sim->op);
  const int64_t free =
      std::max<int64_t>(0, options_.capacity_bytes - AllocatedBytes());
  if (sim->writes()) change.bytes = sim->bytes;
  const SimImage& image = inode.store.cached();
  while (image.MissingBytes(change) > free) {
    if (!sim->writes() || change.bytes == 0) {
      change.bytes = 0;
      break;
    }
    const int64_t end = change.offset + change.bytes;
    change.bytes = std::max<int64_t>(
        0, (end - 1) / SimImage::kBlock * SimImage::kBlock - change.offset);
  }
  if (change.bytes == 0 && sim->bytes > 0) sim->error = ENOSPC;
  sim->bytes = change.bytes;
}

void SimDisk::DoPart(SimOp* sim) {
  const auto [from, length] = sim->parts.back();
  sim->parts.pop_back();
  const FileOp& op = *sim->op;
  SimStore& store = sim->file->inode_->store;
  if (sim->syncs()) {
    if (sim->error == 0) {
      store.Sync(sim->covered);
    } else {
      store.FailSync(sim->covered, options_.forgets_failed, &world_->random());
      ++failed_syncs_;
    }
    return;
  }
  if (op.kind == Kind::kRead) {
    sim->data.replace(static_cast<size_t>(from), static_cast<size_t>(length),
                      store.cached().Read(op.offset + from, length));
    return;
  }
  SimChange change = *ChangeOf(op);
  if (sim->copies()) {
    change.offset += from;
    change.bytes = length;
    change.data = SourceOf(*sim).Read(op.source_offset + from, length);
  } else if (op.kind == Kind::kWrite) {
    change.offset += from;
    change.bytes = length;
    if (sim->captured) {
      change.data = sim->data.substr(static_cast<size_t>(from),
                                     static_cast<size_t>(length));
    } else {
      change.data.resize(static_cast<size_t>(length));
      op.view.Slice(from, length).CopyTo(change.data.data());
    }
  } else if (sim->file->inode_->device) {
    change.keep_size = true;
  }
  store.Change(std::move(change));
}

void SimDisk::Finish(SimOp* sim) {
  Completion* completion = sim->completion;
  SimFile* file = sim->file;
  completion->result = sim->error != 0    ? -sim->error
                       : sim->transfers() ? sim->bytes
                                          : 0;
  if (sim->error == 0 && sim->transfers() && !sim->writes()) {
    sim->op->view.Slice(0, sim->bytes).CopyFrom(sim->data.data());
  }
  if (trace_ != nullptr && sim->op != nullptr) {
    trace_(absl::StrCat("    ", Describe(*sim), ": ",
                        sim->ghost ? "nobody waits" : "gives ",
                        sim->ghost ? "" : absl::StrCat(completion->result)));
  }
  // In place, the one who starts it goes on by itself.
  if (Loop::Current() == nullptr) file->loop_->Schedule(completion->waiter);
  --file->in_flight_;
  ops_.erase(sim->place);
}

struct SimFile::Query : Completion {
  explicit Query(SimFile* from) : file(from) {}
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter = handle;
    file->disk_->StartQuery(file, this);
  }
  // A process that has died meanwhile must not see what the crash has left.
  IoStatus await_resume() noexcept {
    return file->ghost() ? IoError(EIO) : IoError(static_cast<int>(-result));
  }

  SimFile* const file;
};

SimFile::~SimFile() {
  BGFS_CHECK(in_flight_ == 0);
  std::erase_if(inode_->locks, [this](const SimDisk::Lock& lock) {
    return lock.owner == this;
  });
}

Task<IoResult<FileInfo>> SimFile::Stat() {
  BGFS_CO_TRY(co_await Query(this));
  const SimImage& image = inode_->store.cached();
  FileInfo info;
  info.size = image.size();
  info.allocated_bytes = image.allocated_bytes();
  if (inode_->device) {
    info.type = FileInfo::Type::kBlockDevice;
    info.allocated_bytes = info.size;
  }
  if (options_.direct) {
    info.request_alignment = disk_->options_.request_alignment;
    info.memory_alignment = disk_->options_.memory_alignment;
  }
  info.device = 1;
  info.inode = inode_->number;
  co_return info;
}

Task<IoResult<int64_t>> SimFile::SeekData(int64_t offset) {
  BGFS_CO_TRY(co_await Query(this));
  if (inode_->device) co_return IoError(EINVAL);
  const auto found = inode_->store.cached().NextData(offset);
  if (!found.has_value()) co_return IoError(ENXIO);
  co_return *found;
}

Task<IoResult<int64_t>> SimFile::SeekHole(int64_t offset) {
  BGFS_CO_TRY(co_await Query(this));
  if (inode_->device) co_return IoError(EINVAL);
  const auto found = inode_->store.cached().NextHole(offset);
  if (!found.has_value()) co_return IoError(ENXIO);
  co_return *found;
}

IoStatus SimFile::LockShared(int64_t byte) {
  if (ghost()) return IoError(EIO);
  bool mine = false;
  for (const SimDisk::Lock& lock : inode_->locks) {
    if (lock.byte != byte) continue;
    if (lock.exclusive) return IoError(EAGAIN);
    mine = mine || lock.owner == this;
  }
  if (!mine) inode_->locks.push_back({this, byte, false, ""});
  return IoStatus();
}

IoStatus SimFile::Unlock(int64_t byte) {
  if (ghost()) return IoError(EIO);
  std::erase_if(inode_->locks, [this, byte](const SimDisk::Lock& lock) {
    return lock.owner == this && lock.byte == byte;
  });
  return IoStatus();
}

IoResult<bool> SimFile::WouldConflict(int64_t byte) {
  if (ghost()) return IoError(EIO);
  return std::any_of(inode_->locks.begin(), inode_->locks.end(),
                     [this, byte](const SimDisk::Lock& lock) {
                       return lock.owner != this && lock.byte == byte;
                     });
}

std::string SimFile::DescribeLockHolders() {
  std::vector<std::string> holders;
  for (const SimDisk::Lock& lock : inode_->locks) {
    if (lock.owner == nullptr && std::find(holders.begin(), holders.end(),
                                           lock.holder) == holders.end()) {
      holders.push_back(lock.holder);
    }
  }
  return absl::StrJoin(holders, ", ");
}

}  // namespace bgfs
