// ImageLock: the rights on an image file, shown to other programs as QEMU's
// tools show theirs (engine.md, 4), so that both respect each other.
//
// For each right i there are two bytes of the file. A read lock on byte 100 + i
// says "somebody here uses right i", one on byte 200 + i "somebody here does
// not share right i". Whoever wants to use i locks byte 100 + i and then asks
// whether anybody else has a lock on byte 200 + i, and the other way round.

#ifndef BGFS_DRIVERS_IMAGE_LOCK_H_
#define BGFS_DRIVERS_IMAGE_LOCK_H_

#include <string>

#include "absl/status/status.h"
#include "drivers/open_context.h"
#include "graph/async/file.h"
#include "graph/types.h"
#include "proto/bgfs.pb.h"

namespace bgfs {

class ImageLock {
 public:
  // `file` outlives this; `filename` is for messages. With mode AUTO a file
  // system that has no such locks is met with a warning, with ON it is an
  // error, with OFF nothing is ever locked.
  ImageLock(File* file, std::string filename, proto::Locking::Mode mode,
            WarningSink warn);

  // As Driver::PreparePermissions() and so on. UNAVAILABLE when another program
  // has the image open in a way that does not go together; the message names
  // the program.
  absl::Status Prepare(const PermissionSet& users);
  void Commit();
  void Abort();

  // As Prepare(), where `predecessor`, of the same file, holds locks that would
  // be taken for those of another program: it is asked in place of this one,
  // and gives up its own when it is destroyed. After Abort() of both it goes
  // on.
  absl::Status PrepareToFollow(ImageLock* predecessor,
                               const PermissionSet& users);

 private:
  // Which bytes are meant: of the rights used, of the rights not shared.
  struct Bytes {
    Permissions used = 0;
    Permissions unshared = 0;
  };

  static Bytes BytesFor(const PermissionSet& users) {
    return {users.used, kAllPermissions & ~users.shared};
  }
  IoStatus Lock(Bytes bytes);
  void Unlock(Bytes bytes);
  absl::Status Ask() const;
  absl::Status Conflict(Permissions right, bool they_use) const;
  absl::Status CannotLock(IoStatus status);

  File* const file_;
  const std::string filename_;
  proto::Locking::Mode mode_;
  const WarningSink warn_;
  Bytes held_;    // as committed
  Bytes wanted_;  // between Prepare and Commit or Abort
};

}  // namespace bgfs

#endif  // BGFS_DRIVERS_IMAGE_LOCK_H_
