#include "drivers/image_lock.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "drivers/quote.h"

namespace bgfs {
namespace {

constexpr int64_t kUsedByte = 100;
constexpr int64_t kUnsharedByte = 200;

// Calls visit(byte) for every byte meant, until it returns a failure.
template <typename Visitor>
IoStatus ForEachByte(Permissions used, Permissions unshared, Visitor visit) {
  for (int i = 0; i < kPermissionCount; ++i) {
    const Permissions right = Permissions{1} << i;
    IoStatus status;
    if ((used & right) != 0) status = visit(kUsedByte + i);
    if (!status.ok()) return status;
    if ((unshared & right) != 0) status = visit(kUnsharedByte + i);
    if (!status.ok()) return status;
  }
  return IoStatus();
}

}  // namespace

ImageLock::ImageLock(File* file, std::string filename,
                     proto::Locking::Mode mode, WarningSink warn)
    : file_(file),
      filename_(std::move(filename)),
      mode_(mode),
      warn_(std::move(warn)) {}

absl::Status ImageLock::Prepare(const PermissionSet& users) {
  wanted_ = held_;
  if (mode_ == proto::Locking::OFF) return absl::OkStatus();
  wanted_ = BytesFor(users);
  const IoStatus locked =
      Lock({wanted_.used & ~held_.used, wanted_.unshared & ~held_.unshared});
  absl::Status status;
  if (locked.error() == EAGAIN) {
    status = absl::UnavailableError(
        absl::StrCat(Quote(filename_), " is locked exclusively by ",
                     file_->DescribeLockHolders(), "; stop that first"));
  } else if (!locked.ok()) {
    status = CannotLock(locked);
  } else {
    status = Ask();
  }
  if (!status.ok()) Abort();
  return status;
}

absl::Status ImageLock::PrepareToFollow(ImageLock* predecessor,
                                        const PermissionSet& users) {
  // One without locks is not in the way.
  if (predecessor->mode_ == proto::Locking::OFF) return Prepare(users);
  absl::Status status = predecessor->Prepare(users);
  if (!status.ok() || mode_ == proto::Locking::OFF) return status;
  wanted_ = BytesFor(users);
  // Who asked has the right to; shared locks are never in each other's way.
  const IoStatus locked = Lock(wanted_);
  if (!locked.ok()) {
    status = CannotLock(locked);
    if (!status.ok()) predecessor->Abort();
  }
  return status;
}

void ImageLock::Commit() {
  Unlock({held_.used & ~wanted_.used, held_.unshared & ~wanted_.unshared});
  held_ = wanted_;
}

void ImageLock::Abort() {
  Unlock({wanted_.used & ~held_.used, wanted_.unshared & ~held_.unshared});
  wanted_ = held_;
}

IoStatus ImageLock::Lock(Bytes bytes) {
  return ForEachByte(bytes.used, bytes.unshared,
                     [this](int64_t byte) { return file_->LockShared(byte); });
}

void ImageLock::Unlock(Bytes bytes) {
  if (mode_ == proto::Locking::OFF) return;
  // Nothing can be done about a failure; closing the file gives up all.
  ForEachByte(bytes.used, bytes.unshared, [this](int64_t byte) {
    file_->Unlock(byte).Ignore();
    return IoStatus();
  }).Ignore();
}

absl::Status ImageLock::Ask() const {
  for (int i = 0; i < kPermissionCount; ++i) {
    const Permissions right = Permissions{1} << i;
    for (const bool they_use : {false, true}) {
      if (((they_use ? wanted_.unshared : wanted_.used) & right) == 0) continue;
      const IoResult<bool> conflict =
          file_->WouldConflict((they_use ? kUsedByte : kUnsharedByte) + i);
      if (!conflict.ok()) {
        return conflict.status().ToStatus(
            absl::StrCat(Quote(filename_), ": asking for image locks"));
      }
      if (*conflict) return Conflict(right, they_use);
    }
  }
  return absl::OkStatus();
}

absl::Status ImageLock::Conflict(Permissions right, bool they_use) const {
  std::string holders = file_->DescribeLockHolders();
  if (holders.empty()) {
    holders =
        "another node of this daemon, a program it cannot see, or a client of "
        "a "
        "passthrough export that has ended";
  }
  const bool writing = (wanted_.used & (kWrite | kResize)) != 0;
  return absl::UnavailableError(
      absl::StrCat(Quote(filename_), " is in use by ", holders, ", which ",
                   they_use ? "uses " : "does not share ",
                   PermissionNames(right), "; stop that first",
                   writing ? ""
                           : ", or read the image as it is with --force-share "
                             "(force_share: true)"));
}

absl::Status ImageLock::CannotLock(IoStatus status) {
  const std::string problem =
      absl::StrCat(Quote(filename_), " cannot be locked (",
                   std::strerror(status.error()), ")");
  Unlock(wanted_);
  wanted_ = held_ = Bytes();
  if (mode_ == proto::Locking::ON) {
    return absl::UnavailableError(
        absl::StrCat(problem, "; to open it without locks, drop locking: ON"));
  }
  mode_ = proto::Locking::OFF;
  if (warn_) {
    warn_(absl::StrCat(problem,
                       "; nothing keeps other programs from changing it"));
  }
  return absl::OkStatus();
}

}  // namespace bgfs
