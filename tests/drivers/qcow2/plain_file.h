// The least there must be under an image: a host file, for reading only.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_PLAIN_FILE_H_
#define BGFS_TESTS_DRIVERS_QCOW2_PLAIN_FILE_H_

#include <memory>
#include <utility>

#include "graph/async/file.h"
#include "graph/driver.h"
#include "graph/node.h"

namespace bgfs::qcow2 {

class PlainFile final : public Driver {
 public:
  explicit PlainFile(std::unique_ptr<File> file) : file_(std::move(file)) {}

  absl::string_view format_name() const override { return "plain-file"; }

  Task<IoStatus> Read(Request&, int64_t offset, IoView data) override {
    for (int64_t done = 0; done < data.size();) {
      const int64_t read = co_await file_->Read(
          offset + done, data.Slice(done, data.size() - done));
      if (read == -EINTR) continue;
      if (read < 0) co_return IoError(static_cast<int>(-read));
      if (read == 0) co_return IoError(EIO);
      done += read;
    }
    co_return IoStatus();
  }

  Task<IoResult<int64_t>> AllocatedBytes() override {
    const auto info = co_await file_->Stat();
    if (!info.ok()) co_return info.status();
    co_return info->allocated_bytes;
  }

 private:
  const std::unique_ptr<File> file_;
};

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_PLAIN_FILE_H_
